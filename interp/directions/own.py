"""Our own file of a direction: safetensors with one tensor, and its site, provenance, evidence and checksum as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from interp.directions.direction import Direction
from interp.directions.provenance import from_json
from interp.disk import replacing
from interp.errors import InterpError

SUFFIX, METADATA = ".safetensors", "interp_direction"
_TENSOR, _VERSION = "direction", 1


def save(direction: Direction, path: Path | str) -> None:
    """Write a direction with its provenance to a `.safetensors` file, atomically. `load` gives an equal direction, to
    the bit.

    Raises:
        InterpError: another suffix; the file cannot be written.
    """
    described = {
        "version": _VERSION,
        "layer": direction.layer,
        "site": direction.site,
        "provenance": direction.provenance.to_json(),
        "sha256": _sha256(direction.vector),
    }
    metadata = {"format": "pt", METADATA: json.dumps(described)}
    with replacing(Path(path), SUFFIX) as draft:
        draft.write_bytes(to_bytes({_TENSOR: direction.vector}, metadata))  # save_file would hide it from other users


def read(path: Path, tensors: dict[str, Tensor], text: str) -> Direction:
    """The direction in a file's tensors and its metadata `text`.

    Raises:
        InterpError: damaged, of another version, or a vector that is not the one that was saved.
    """
    try:
        described: Any = json.loads(text)
        version, layer, site, sha256 = (described[key] for key in ("version", "layer", "site", "sha256"))
        told, vector = described["provenance"], tensors[_TENSOR]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InterpError(f"{path}: its metadata are damaged; save or download it again") from error
    if version != _VERSION:
        raise InterpError(
            f"{path}: is of version {version!r}, and version {_VERSION} is read; update, or save it again"
        )
    if vector.dtype != torch.float32 or _sha256(vector) != sha256:
        raise InterpError(f"{path}: its vector is not the one that was saved with its evidence; save it again")
    return Direction(vector, layer, site, from_json(told))


def _sha256(vector: Tensor) -> str:
    return hashlib.sha256(vector.contiguous().numpy().astype("<f4").tobytes()).hexdigest()
