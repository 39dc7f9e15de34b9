"""A training run on disk: one file, replaced as a whole, that another process goes on from to the bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import InterpError

FILE = "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a run has come to."""

    identity: dict[str, Any]
    """The whole config and the hash of the data: what must be equal for the run to go on."""
    logs: list[list[dict[str, float]]]
    """Rows of metrics so far, of each crosscoder."""
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write beside the present file, then put in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"identity": json.dumps(checkpoint.identity), "logs": json.dumps(checkpoint.logs)}
    scratch = folder / f"{FILE}.{os.getpid()}"
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, scratch, said)
        scratch.replace(folder / FILE)
    finally:
        scratch.unlink(missing_ok=True)


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The run to go on with; None where there is none.

    Raises:
        InterpError: the file is damaged, or belongs to a run with another config or other data.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found, logs = json.loads(said["identity"]), json.loads(said["logs"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InterpError(f"{path}: damaged ({error}); remove it to train anew") from error
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        old, new = _flat(found), _flat(wanted)
        key = next(key for key in sorted(old | new) if old.get(key) != new.get(key))
        raise InterpError(
            f"{path}: belongs to a run with {key} = {old.get(key)!r}, now {new.get(key)!r};"
            " give that run's settings and data, or remove the file to train anew"
        )
    return Checkpoint(found, logs, tensors)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()}
