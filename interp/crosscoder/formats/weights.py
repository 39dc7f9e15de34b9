"""A weights file and the config beside it, read without running anything in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from interp.errors import InterpError

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin")
_COMPILED = "_orig_mod."
_WRAPPERS = ("model_state_dict", "state_dict", "sae")
"""Keys under which training checkpoints keep the weights."""

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """The tensors of one file, floats in fp32."""

    path: Path
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """What a config file says."""

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
    held = _load_safetensors(path) if path.suffix == SAFETENSORS else _load_pickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(held, dict) and isinstance(held.get(wrapper), dict):
            held = held[wrapper]
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise InterpError(f"{path}: holds no weights by name; name the file with the state dict")
    named = without_prefix({str(name): value for name, value in held.items()})
    return Weights(path, {name: t.float() if t.is_floating_point() else t for name, t in named.items()})


def without_prefix(named: Mapping[str, T]) -> dict[str, T]:
    """The same under the names that stood before torch.compile put its prefix before every one."""
    if not all(name.startswith(_COMPILED) for name in named):
        return dict(named)
    return {name.removeprefix(_COMPILED): value for name, value in named.items()}


def find_config(weights: Weights, *names: str) -> Config | None:
    """The first of these files that lies beside the weights, parsed as JSON or YAML; None where there is none.

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
        raise InterpError(f"{path}: cannot be read ({_line(error)}); write or download it again") from error
    if not isinstance(values, dict):
        raise InterpError(f"{path}: holds no names and values; write or download it again")
    return Config(path, values)


def need_config(weights: Weights, *names: str) -> Config:
    """As `find_config`, where the tensors alone do not say what to compute.

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
        raise InterpError(f"{path}: not a safetensors file ({_line(error)}); save or download it again") from error


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch stumble over: KeyError and EOFError among others
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise InterpError(
                f"{path}: refused, because reading it would run code ({code[1]}) and not only load tensors;"
                " where you trust its author, convert it to safetensors yourself"
            ) from error
        advises = "weights_only" in str(error)  # to read it without the safeguard, which is no advice of ours
        reason = "torch.save did not write it, or wrote more than tensors" if advises else _line(error)
        raise InterpError(f"{path}: not a weights file ({reason}); save or download it again") from error


def _line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:160]
