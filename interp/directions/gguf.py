"""GGUF control vectors: read and written as llama.cpp and repeng do.

One F32 tensor with one axis per block, `direction.<k>`, k >= 1. llama.cpp (`common_control_vector_load_one`) adds
strength × `direction.k` to the output of block k, counted from 0, at every position, the prompt's too; repeng gives its
layers the same numbers. So `direction.k` is `blocks.k.hook_resid_post`. llama.cpp refuses `direction.0`: it cannot
reach block 0. It does not read the metadata; repeng demands `controlvector.model_hint`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.directions.direction import Direction
from interp.disk import replacing
from interp.errors import InterpError, one_line

SUFFIX, ARCHITECTURE, SITE = ".gguf", "controlvector", "resid_post"
_NAME = re.compile(r"direction\.(0|[1-9]\d{0,3})", re.ASCII)
_BLOCK_0 = "llama.cpp cannot reach block 0 (it refuses direction.0)"


def export_gguf(
    directions: Direction | Mapping[int, Direction] | Iterable[Direction],
    path: Path | str,
    model_hint: str,
    scale: float | None = None,
) -> None:
    """Write one direction per block to a control vector, atomically.

    llama.cpp adds strength × vector. Without `scale` the vector is written as it is, so strength 1 adds its own norm.
    With it each has the norm |scale| × residual_norm of its provenance, reversed where scale < 0: then strength 1 is a
    dose of `scale` residual norms. `model_hint` is the model type (`config.model_type`, such as `qwen2`).

    Raises:
        InterpError: block 0, another site than resid_post, two for one block, different widths, no direction, an empty
            hint; with `scale`, one that is 0 or not finite, or no residual_norm; the file cannot be written.
    """
    import gguf

    path, chosen = Path(path), _list_of(directions)
    _check(path, chosen, model_hint)
    rows = {d.layer: _scaled(path, d, scale).vector.numpy().astype(np.float32) for d in chosen}
    with replacing(path, SUFFIX) as draft:
        writer = gguf.GGUFWriter(draft, ARCHITECTURE)
        try:
            writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
            writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(rows))
            for layer, row in sorted(rows.items()):
                writer.add_tensor(f"direction.{layer}", row)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def read(path: Path) -> tuple[dict[int, Tensor], str | None]:
    """Block to vector [d_model], float32, and the model hint where there is one.

    Raises:
        InterpError: damaged; a tensor that is not `direction.<k>`, not F32 or not of one axis; block 0; no direction.
    """
    try:
        with np.errstate(over="raise"):  # an offset that overflows would point into the file
            reader = _reader(path)
            hint = reader.get_field(f"{ARCHITECTURE}.model_hint")
            model = bytes(hint.parts[-1]).decode() if hint else None
            vectors = {_block(path, tensor): _vector(tensor) for tensor in reader.tensors}
    except InterpError:
        raise
    except Exception as error:  # the reader meets damaged bytes with errors of many kinds, RecursionError among them
        raise InterpError(f"{path}: not a readable GGUF file ({one_line(error)}); save or download it again") from error
    if not vectors:
        raise InterpError(f"{path}: holds no direction.<block>; name a control vector")
    return vectors, model


def _list_of(directions: Direction | Mapping[int, Direction] | Iterable[Direction]) -> list[Direction]:
    if isinstance(directions, Direction):
        return [directions]
    return list(directions.values() if isinstance(directions, Mapping) else directions)


def _check(path: Path, directions: list[Direction], model_hint: str) -> None:
    blocks = [d.layer for d in directions]
    if not directions or not model_hint:
        raise InterpError(f"{path}: a control vector needs a direction and a model hint; give both")
    if odd := next((d for d in directions if d.site != SITE), None):
        raise InterpError(
            f"{path}: {odd.hook_name} cannot be written, because llama.cpp adds at {SITE} only; make it there"
        )
    if 0 in blocks:
        raise InterpError(f"{path}: {_BLOCK_0}; give a direction of a later block")
    if len(set(blocks)) < len(blocks) or len({d.d_model for d in directions}) > 1:
        raise InterpError(
            f"{path}: two directions of one block, or of different widths; add them up, or make two files"
        )


def _scaled(path: Path, direction: Direction, scale: float | None) -> Direction:
    if scale is None:
        return direction
    unit = direction.provenance.residual_norm
    if unit is None or scale == 0 or not math.isfinite(scale):
        raise InterpError(
            f"{path}: scale = {scale} needs to be finite and not 0, and {direction.hook_name} a residual_norm in its"
            " provenance; leave scale out to write the vector as it is"
        )
    return (direction if scale > 0 else -direction).scaled(abs(scale) * unit)


def _reader(path: Path) -> Any:
    """The library's reader, made to stop where a file claims more than it holds: its arrays would grow for ever."""
    import gguf

    class Reader(gguf.GGUFReader):
        def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
            if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
                raise ValueError("it ends too early")
            return super()._get(offset, dtype, count, override_order)

    return Reader(path)


def _block(path: Path, tensor: Any) -> int:
    match = _NAME.fullmatch(tensor.name)
    if match is None:
        name = one_line(repr(tensor.name), 60)
        raise InterpError(f"{path}: its tensor {name} is not direction.<block>; name a control vector")
    if match[1] == "0":
        raise InterpError(f"{path}: holds direction.0, and {_BLOCK_0}; remove it, or read the file it was made from")
    if tensor.tensor_type.name != "F32" or len(tensor.shape) != 1:
        shape, kind = [int(n) for n in tensor.shape], tensor.tensor_type.name
        raise InterpError(f"{path}: {tensor.name} is {kind} of shape {shape}; control vectors are F32 of one axis")
    return int(match[1])


def _vector(tensor: Any) -> Tensor:
    """A copy in this machine's byte order; the reader's array is a view of the file."""
    return torch.from_numpy(tensor.data.astype(np.float32))
