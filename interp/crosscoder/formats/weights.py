"""From what the user names to the tensors of one weights file and the config beside it, without running any code
from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from interp.errors import InterpError, one_line
from interp.tensors import load_pickle

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin")
_SUFFIXES = (SAFETENSORS, *PICKLES)
_CONFIGS = (".json", ".yaml")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(/\w[\w.-]*)*")
_COMPILED = "_orig_mod."
_WRAPPERS = ("model_state_dict", "state_dict", "sae")
"""Keys under which training checkpoints keep the weights."""

Layout = Literal["dictionary_learning", "stacked", "saelens", "sparsify", "llamascopium", "crosscode", "opd"]
T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """The tensors of one file, floats in fp32."""

    path: Path
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """The keys and values of a config file."""

    path: Path
    values: dict[str, Any]

    def count(self, key: str) -> int:
        """A whole number above zero.

        Raises:
            InterpError: the key is missing, or holds something else.
        """
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InterpError(f"{self.path}: {key} is {value!r}; it must be a whole number above 0")
        return value


def load(path: Path) -> Weights:
    """Every tensor of a file, under its name without torch.compile's prefix.

    Raises:
        InterpError: the file is damaged, holds other things than tensors, or would run code.
    """
    held = (
        _load_safetensors(path)
        if path.suffix == SAFETENSORS
        else load_pickle(path, "convert it to safetensors yourself")
    )
    for wrapper in _WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(wrapper), dict):
            held = held[wrapper]
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise InterpError(f"{path}: holds no weights by name; name the file with the state dict")
    named = without_prefix({str(name): value for name, value in held.items()})
    if odd := next((name for name, t in named.items() if t.layout != torch.strided or t.is_meta), None):
        raise InterpError(f"{path}: {odd} is a sparse tensor or has no values; save dense tensors")
    return Weights(path, {name: (t.float() if t.is_floating_point() else t).detach() for name, t in named.items()})


def without_prefix(named: Mapping[str, T]) -> dict[str, T]:
    """The same without torch.compile's prefix, where every name has it."""
    if not all(name.startswith(_COMPILED) for name in named):
        return dict(named)
    return {name.removeprefix(_COMPILED): value for name, value in named.items()}


def find_config(weights: Weights, *names: str) -> Config | None:
    """The first of these files beside the weights, parsed as JSON or YAML; None where there is none.

    Raises:
        InterpError: it is not a mapping of names to values.
    """
    path = next((weights.path.parent / name for name in names if (weights.path.parent / name).is_file()), None)
    if path is None:
        return None
    try:
        text = path.read_text()
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, _TupleLoader)  # a safe loader
    except (ValueError, yaml.YAMLError, OSError) as error:
        raise InterpError(f"{path}: cannot be read ({one_line(error)}); write or download it again") from error
    if not isinstance(values, dict):
        raise InterpError(f"{path}: holds no names and values; write or download it again")
    return Config(path, values)


def need_config(weights: Weights, *names: str) -> Config:
    """As `find_config`, where the tensors alone do not determine the computation.

    Raises:
        InterpError: there is none, or it cannot be read.
    """
    config = find_config(weights, *names)
    if config is None:
        raise InterpError(f"{weights.path}: there is no {' or '.join(names)} beside it; put it there")
    return config


class _TupleLoader(yaml.SafeLoader):
    """Plain YAML, and Python's tuples."""


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node))


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InterpError(f"{path}: not a safetensors file ({one_line(error)}); save or download it again") from error


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Layout | None:
    """The layout that has tensors of these names and numbers of axes; None where none is known to."""
    axes = {name: len(shape) for name, shape in shapes.items()}
    known: dict[Layout, bool] = {
        "llamascopium": axes.get("W_D") == 3,
        "crosscode": "_W_enc_XiDiL" in axes,
        "opd": "encoder.projections.0.weight" in axes,
        "dictionary_learning": axes.get("encoder.weight") == 3,
        "sparsify": axes.get("encoder.weight") == 2 and "W_dec" in axes,
        "stacked": axes.get("W_enc") == 3,
        "saelens": axes.get("W_enc") == 2,
    }
    return next((layout for layout, fits in known.items() if fits), None)


def locate(source: Path | str) -> Path:
    """The weights file of a folder, a file or a hub id; only a string is ever looked up on the hub.

    Raises:
        InterpError: nothing of that name, no weights there, or several of which one must be named.
    """
    path = Path(source)
    if not path.exists():
        if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
            raise InterpError(f"{source}: no such file or folder; name one, or a hub id such as owner/name")
        path = _download(source)
    if path.is_dir():
        return _only_weights(path, source)
    if path.suffix not in _SUFFIXES:
        raise InterpError(f"{path}: not a weights file; name one that ends in {', '.join(_SUFFIXES)}, or its folder")
    return path


def _download(source: str) -> Path:
    """Fetch the files of one crosscoder; a hub repository may hold a folder for every layer."""
    from huggingface_hub import snapshot_download

    owner, name, *rest = source.split("/")
    inside = Path(*rest)
    is_file = inside.suffix in _SUFFIXES
    folder = inside.parent if is_file else inside
    start = "" if folder == Path() else f"{folder.as_posix()}/"
    wanted = [inside.as_posix()] if is_file else [f"{start}*{suffix}" for suffix in _SUFFIXES]
    wanted += [f"{start}*{suffix}" for suffix in _CONFIGS]
    try:
        root = snapshot_download(f"{owner}/{name}", allow_patterns=wanted, ignore_patterns=[f"{start}*/*"])
    except (OSError, ValueError) as error:  # every error of the hub's is one of these
        reason = one_line(error, 200)
        raise InterpError(
            f"{source}: no such file or folder here, and the hub did not give {owner}/{name} ({reason});"
            " correct the name, or download it where there is a network"
        ) from error
    if not (Path(root) / inside).exists():
        raise InterpError(f"{source}: {owner}/{name} on the hub has no weights in {inside.as_posix()}; correct it")
    return Path(root) / inside


def _only_weights(folder: Path, source: Path | str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(found) > 1:  # a folder may hold other tensors too, such as SAELens' sparsity.safetensors
        safe = [path for path in found if path.suffix == SAFETENSORS]
        pickled = [path for path in found if path.suffix != SAFETENSORS]
        found = [path for path in safe if _is_known(path)] or pickled or safe
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:6])
        raise InterpError(f"{source}: holds several weights files ({names}); name one of them")
    if not found:
        within = sorted({path.parent.name for path in folder.glob("*/*") if path.suffix in _SUFFIXES})
        hint = f"; its folders {', '.join(within[:6])} have some" if within else ", or its subfolder on the hub"
        raise InterpError(f"{source}: there are no weights ({', '.join(_SUFFIXES)}) in it; name the folder{hint}")
    return found[0]


def _is_known(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return False
    return recognise(without_prefix(shapes)) is not None
