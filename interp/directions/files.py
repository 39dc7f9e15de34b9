"""Directions as files: one format of our own, three of others.

| suffix | holds | layer and site |
|---|---|---|
| `.safetensors` of `save` | one direction with provenance, evidence and a checksum (`own`) | in the file |
| `.safetensors` of others | plain tensors (`plain`) | by name, or given |
| `.pt`, `.pth` | plain tensors (`plain`), read without running code | by name, or given |
| `.gguf` | a control vector (`gguf`) | `direction.k` is `blocks.k.hook_resid_post` |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from interp.directions import gguf, own, plain
from interp.directions.direction import Direction
from interp.directions.own import save
from interp.directions.provenance import Provenance
from interp.errors import InterpError
from interp.folders import file_digest
from interp.tensors import load_pickle

_ALONE = "save its tensors alone (of a SteeringVector, layer_activations)"

__all__ = ["load", "load_all", "save"]


def load(
    path: Path | str, *, layer: int | None = None, site: str | None = None, d_model: int | None = None
) -> Direction:
    """The direction in a file, or that of `layer` where it holds several.

    `layer` and `site` must be given where the file does not say them (see the table above); `d_model` is the width it
    must have.

    Raises:
        InterpError: as `load_all`; several layers and none chosen.
    """
    found = _load(path, layer, site, d_model)
    if layer is None and len(found) > 1:
        raise InterpError(f"{path}: holds layers {_few(found)}; give layer=, one of them")
    return found[next(iter(found)) if layer is None else layer]


def load_all(
    path: Path | str, *, layer: int | None = None, site: str | None = None, d_model: int | None = None
) -> dict[int, Direction]:
    """Layer to direction, layers rising. `layer` is the layer of a single vector that has none.

    Raises:
        InterpError: no such file; an unknown suffix; damaged; a pickle that would run code; layer or site missing, or
            not as given; other widths than `d_model` or each other; NaN, infinity, zeros; a type or shape that is no
            direction's; block 0 of a control vector.
    """
    found = _load(path, layer, site, d_model)
    if layer is not None and len(found) > 1:
        raise InterpError(f"{path}: holds layers {_few(found)}; leave layer out, or load one of them")
    return found


def _load(path: Path | str, layer: int | None, site: str | None, d_model: int | None) -> dict[int, Direction]:
    path = Path(path)
    if not path.is_file():
        raise InterpError(f"{path}: no such file; name one that ends in {', '.join(_READERS)}")
    if path.suffix not in _READERS:
        raise InterpError(f"{path}: no format of a direction ends so; name one that ends in {', '.join(_READERS)}")
    try:
        directions = _READERS[path.suffix](path, layer, site)
    except InterpError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise InterpError(f"{path}: {error}") from error  # a direction's own refusal
    found = {direction.layer: direction for direction in sorted(directions, key=lambda d: d.layer)}
    if len(found) < len(directions):
        raise InterpError(f"{path}: holds one layer at several sites; save one site to a file")
    if layer is not None and layer not in found:
        raise InterpError(f"{path}: holds layer {_few(found)}, not {layer}; give layer=, one that it holds")
    width = d_model or directions[0].d_model
    for direction in directions:
        if direction.d_model != width:
            raise InterpError(
                f"{path}: {direction.hook_name} has {direction.d_model} coordinates, not {width}; name a file made for"
                " this model"
            )
        if site not in (None, direction.site):
            raise InterpError(f"{path}: lies at {direction.hook_name}, and site is given as {site}; leave it out")
    return found


def _read_safetensors(path: Path, layer: int | None, site: str | None) -> list[Direction]:
    tensors, metadata = plain.read_safetensors(path)
    if own.METADATA in metadata:
        return [own.read(path, tensors, metadata[own.METADATA])]
    return _foreign(path, plain.by_layer(path, tensors, layer, site))


def _read_pickle(path: Path, layer: int | None, site: str | None) -> list[Direction]:
    return _foreign(path, plain.by_layer(path, load_pickle(path, _ALONE), layer, site))


def _read_gguf(path: Path, _layer: int | None, _site: str | None) -> list[Direction]:
    vectors, model = gguf.read(path)
    return _foreign(path, {(block, gguf.SITE): vector for block, vector in vectors.items()}, model)


_READERS: dict[str, Callable[[Path, int | None, str | None], list[Direction]]] = {
    own.SUFFIX: _read_safetensors,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
    gguf.SUFFIX: _read_gguf,
}
"""Readers take the layer and site that the caller gave, and return at least one direction."""


def _foreign(path: Path, vectors: dict[tuple[int, str], Tensor], model: str | None = None) -> list[Direction]:
    """Directions of which no more is known than their file."""
    if not vectors:
        raise InterpError(f"{path}: holds no direction; name another file")
    bare = [Direction(vector, layer, site) for (layer, site), vector in vectors.items()]
    about = Provenance(f"read from {path.name}", model=model, evidence={"file": path.name, "sha256": file_digest(path)})
    return [Direction(d.vector, d.layer, d.site, replace(about, norm=d.norm)) for d in bare]


def _few(found: dict[int, Direction]) -> str:
    return ", ".join(map(str, list(found)[:8])) + (", ..." if len(found) > 8 else "")
