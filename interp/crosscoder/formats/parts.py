"""What all readers share: the checks of tensors and of given scales, and the state dict made of the parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from interp.crosscoder.config import Activation, CrosscoderConfig
from interp.crosscoder.formats.weights import Weights
from interp.errors import InterpError

_NONE: Mapping[str, str] = MappingProxyType({})
_COUNTS = frozenset({"k", "code_normalization_id", "activation_dims_tensor", "is_folded"})
"""Tensors that hold whole numbers or a truth value; all others hold floats."""


class Gate(NamedTuple):
    """The kind of gate and its parameters."""

    activation: Activation
    k: int | None = None
    threshold: Float[Tensor, ""] | None = None
    """batch_topk: the score that an active latent exceeds."""
    log_threshold: Float[Tensor, " latents"] | None = None
    """jumprelu: log of the activation that each active latent exceeds."""


class Loaded(NamedTuple):
    """A crosscoder as data."""

    config: CrosscoderConfig
    state: dict[str, Tensor]
    """State dict of `Crosscoder(config)`, in fp32."""


def loaded(
    path: Path,
    gate: Gate,
    *,
    W_enc: Float[Tensor, "models d_model latents"],
    W_dec: Float[Tensor, "latents models d_model"],
    b_enc: Float[Tensor, " latents"],
    b_dec: Float[Tensor, "models d_model"],
    mean: Float[Tensor, "models d_model"] | None = None,
    scale: Float[Tensor, "models columns"] | None = None,
    n_dedicated: int = 0,
) -> Loaded:
    """The config and state dict of a crosscoder given by its parts.

    Weights act on the normalised input (x - mean) * scale; `scale` has one column for all coordinates or d_model of
    them; no mean is 0, no scale is 1. `path` is named in errors.

    Raises:
        InterpError: the gate does not fit the dictionary, or a scale is not above 0.
    """
    m, d, n = W_enc.shape
    try:
        config = CrosscoderConfig(
            n_models=m, d_model=d, n_latents=n, k=gate.k, activation=gate.activation, n_dedicated=n_dedicated
        )
    except ValidationError as error:
        reason = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise InterpError(f"{path}: {reason}; put the weights and the config of one crosscoder together") from error
    state = {
        "encoder": rearrange(W_enc, "m d l -> l (m d)"),
        "decoder": W_dec.flatten(1),
        "b_enc": b_enc,
        "b_dec": b_dec,
        "mean": torch.zeros(m, d) if mean is None else mean,
        "scale": torch.ones(m, d) if scale is None else scale.expand(m, d),
        "threshold": torch.zeros(()) if gate.threshold is None else gate.threshold,
    }
    if not (state["scale"] > 0).all():
        raise InterpError(f"{path}: a factor that scales the input is not above 0; the file is damaged")
    if gate.log_threshold is not None:
        state["log_threshold"] = gate.log_threshold
    return Loaded(config, {name: tensor.contiguous() for name, tensor in state.items()})


def bias_after_subtraction(
    b_enc: Float[Tensor, " latents"],
    W_enc: Float[Tensor, "models d_model latents"],
    subtracted: Float[Tensor, "models d_model"],
) -> Float[Tensor, " latents"]:
    """The encoder bias that gives (x - subtracted) W_enc + b_enc for x itself, summed in fp64."""
    return (b_enc.double() - torch.einsum("md,mdl->l", subtracted.double(), W_enc.double())).float()


def check(
    weights: Weights,
    required: Mapping[str, str],
    optional: Mapping[str, str] = _NONE,
    *,
    unchecked: Sequence[str] = (),
) -> dict[str, int]:
    """The size that each letter of the shapes stands for, once every tensor has been checked.

    `required` and `optional` map names to shapes as letters, such as "n d L"; a letter is one size throughout.
    Tensors named in `unchecked` may hold NaN or infinity by design.

    Raises:
        InterpError: a tensor is missing, unknown, misshapen, not of floats or not finite; the first fault is named.
    """
    tensors, path = weights.tensors, weights.path
    if missing := [name for name in required if name not in tensors]:
        raise InterpError(f"{path}: {', '.join(missing[:4])} missing; save or download it again")
    if unknown := sorted(tensors.keys() - required.keys() - optional.keys()):
        raise InterpError(
            f"{path}: tensors that this format does not have ({', '.join(unknown[:4])}), so it computes something else;"
            " name another file"
        )
    sizes: dict[str, int] = {}
    for name, letters in {**required, **optional}.items():
        if name in tensors:
            sizes |= _fitted(path, name, tensors[name], letters.split(), sizes)
            _check_values(path, name, tensors[name], may_be_nan=name in unchecked)
    return sizes


def _fitted(path: Path, name: str, tensor: Tensor, axes: list[str], sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes of a tensor's axes, which must agree with each other and with those known so far."""
    own = dict(zip(axes, tensor.shape, strict=False))
    fits = len(axes) == tensor.ndim and all(
        (sizes.get(axis, own[axis]), own[axis]) == (size, size) for axis, size in zip(axes, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
        raise InterpError(f"{path}: {name} has shape {list(tensor.shape)}, not [{wanted}]; save or download it again")
    return own


def _check_values(path: Path, name: str, tensor: Tensor, *, may_be_nan: bool) -> None:
    real = not tensor.is_complex() if name in _COUNTS else tensor.is_floating_point()
    if not real:
        raise InterpError(
            f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not floats;"
            " quantised weights cannot be read: save or download those in float32, bfloat16 or float16"
        )
    if not may_be_nan and not torch.isfinite(tensor).all():
        raise InterpError(f"{path}: {name} holds NaN or infinite values; the file is damaged, or training diverged")


def need_scales(weights: Weights, scales: tuple[float, ...] | None, n_models: int) -> Float[Tensor, " models"]:
    """The user's factors, for a file that holds none.

    Raises:
        InterpError: none were given, another number of them than there are models, or one that is not above 0.
    """
    how = f"give {n_models}, as in Crosscoder.load(path, scales={(1.0,) * n_models})"
    if scales is None:
        raise InterpError(
            f"{weights.path}: was trained on inputs scaled by sqrt(d_model) / mean |x| of each model, and does not hold"
            f" these factors; {how} with the factors in place of 1.0"
        )
    if len(scales) != n_models:
        raise InterpError(f"{weights.path}: scales has {len(scales)} factors, and the file {n_models} models; {how}")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise InterpError(f"{weights.path}: scales={scales} must be finite and above 0; {how}")
    return torch.tensor(scales)


def refuse_scales(weights: Weights, scales: tuple[float, ...] | None) -> None:
    """Refuse factors for a file that holds its own.

    Raises:
        InterpError: they were given.
    """
    if scales is not None:
        raise InterpError(f"{weights.path}: holds the scaling of its input itself; leave scales out")
