"""Plain tensors of other tools, which say neither site nor how they were made: what they hold, by layer.

| file | holds |
|---|---|
| one tensor [d_model] or [1, d_model] | one layer, which must be given |
| one tensor [layers, d_model] | row i is block i; a row of zeros is a block without a direction |
| tensors by layer | `3`, `layer_3`, `layers.3`, `blocks.3`, `direction.3`, `blocks.3.hook_resid_post` or the number 3 |
| steering-vectors | `{"layer_activations": {3: tensor}, "layer_type": "decoder_block"}`, or its first entry alone |

Of hidden states as transformers returns them, row 0 is the embedding: these rows are `resid_pre`, not `resid_post`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.directions.direction import FLOATS
from interp.errors import InterpError, one_line

_NUMBER = r"(0|[1-9]\d{0,3})"
_BY_LAYER = re.compile(rf"(?:(?:[\w.]*\.)?(?:layers?|blocks?|direction|h)[._]?)?{_NUMBER}", re.ASCII)
_BY_HOOK = re.compile(rf"blocks\.{_NUMBER}\.hook_(resid_pre|resid_mid|resid_post)", re.ASCII)
_LAYER_TYPES = {"decoder_block": "resid_post"}
"""Site of steering-vectors' layer types; the others are no residuals."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file.

    Raises:
        InterpError: damaged, or not of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise InterpError(f"{path}: not a safetensors file ({one_line(error)}); save or download it again") from error


def by_layer(path: Path, held: Any, layer: int | None, site: str | None) -> dict[tuple[int, str], Tensor]:
    """(layer, site) to vector [d_model]. The caller's `layer` is used where the file holds one vector without a layer,
    and `site` where it names none.

    Raises:
        InterpError: layer or site neither in the file nor given, or given another; names that hold no layer; a layer
            twice; tensors of other shapes or types.
    """
    if isinstance(held, dict) and "layer_activations" in held:
        held, site = held["layer_activations"], _site_of(path, held.get("layer_type"), site)
    if isinstance(held, dict) and len(held) == 1 and _place(next(iter(held))) is None:
        held = next(iter(held.values()))
    if isinstance(held, Mapping):
        return _named(path, held, site)
    vectors = _checked(path, "its tensor", held)
    if site is None:
        raise InterpError(f"{path}: does not say at which site it lies; give site='resid_post', or another")
    if vectors.ndim == 2 and len(vectors) > 1:
        return {(i, site): row for i, row in enumerate(vectors) if row.any()}
    if layer is None:
        raise InterpError(f"{path}: does not say to which layer it belongs; give layer=, the block's number from 0")
    return {(layer, site): vectors.reshape(-1)}


def _named(path: Path, held: Mapping[Any, Any], site: str | None) -> dict[tuple[int, str], Tensor]:
    found: dict[tuple[int, str], Tensor] = {}
    for name, value in held.items():
        place = _place(name)
        if place is None:
            raise InterpError(
                f"{path}: {one_line(repr(name), 60)} names no layer; save tensors as layer_<number>, or one tensor"
            )
        layer, own = place
        if own and site and own != site:
            raise InterpError(f"{path}: {name} lies at {own}, and site is given as {site}; leave it out")
        if (where := own or site) is None:
            raise InterpError(f"{path}: does not say at which site it lies; give site='resid_post', or another")
        tensor = _checked(path, repr(name), value)
        if tensor.ndim == 2 and len(tensor) > 1:
            raise InterpError(f"{path}: {name!r} has shape {list(tensor.shape)}; one layer needs [d_model]")
        if (layer, where) in found:
            raise InterpError(f"{path}: holds layer {layer} twice ({name!r} is the second); save it once")
        found[layer, where] = tensor.reshape(-1)
    return found


def _place(name: Any) -> tuple[int, str | None] | None:
    """(layer, site or None) that a tensor's name states; None where it states no layer."""
    if isinstance(name, int) and not isinstance(name, bool):
        return (name, None) if name >= 0 else None
    if match := _BY_HOOK.fullmatch(str(name)):
        return int(match[1]), match[2]
    match = _BY_LAYER.fullmatch(str(name))
    return (int(match[1]), None) if match else None


def _site_of(path: Path, layer_type: Any, site: str | None) -> str:
    own = _LAYER_TYPES.get(str(layer_type), "another site")
    if own != (site or own) or own == "another site":
        raise InterpError(
            f"{path}: its layer_type {one_line(repr(layer_type), 40)} is not the residual{f' {site}' if site else ''};"
            f" only {', '.join(_LAYER_TYPES)} can be read, as {', '.join(_LAYER_TYPES.values())}"
        )
    return own


def _checked(path: Path, name: str, value: Any) -> Tensor:
    """A dense tensor of floats with one or two axes, whose values are all stored."""
    if not isinstance(value, Tensor):
        raise InterpError(f"{path}: {name} is no tensor but a {type(value).__name__}; save tensors by layer")
    if value.layout != torch.strided or value.is_nested or value.is_meta:
        raise InterpError(f"{path}: {name} is sparse, nested or without values; save a dense tensor")
    if value.dtype not in FLOATS:
        raise InterpError(f"{path}: {name} is {value.dtype}; directions are floats of 16, 32 or 64 bits")
    if value.ndim not in (1, 2) or value.numel() == 0:
        raise InterpError(f"{path}: {name} has shape {list(value.shape)}; it must be [d_model] or [layers, d_model]")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # a few bytes can claim any shape
        raise InterpError(f"{path}: {name} repeats stored values to reach its shape; save a contiguous tensor")
    return value.detach()
