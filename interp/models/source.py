"""Where a checkpoint's files are: a folder, a hub id, adapters on a base, or a model that is fetched by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from interp.errors import InterpError
from interp.models.smollm2 import FETCHED

ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """A whole model, and the low-rank adapters to merge into it, if any."""

    model: str
    """Folder or hub id with config, weights and tokenizer."""
    adapter: str | None = None
    """Folder of the adapters."""


def locate(name: str, path: str) -> Source:
    """The files of the checkpoint that a config calls `path`; `name` is its model in the study, for error messages.

    Raises:
        InterpError: the folder is missing or holds no model, or it holds adapters without a base, or whose base is
            itself a folder of adapters.
    """
    if path in FETCHED:
        return Source(FETCHED[path]())
    folder = _folder(name, path)
    if not path.startswith((".", "/", "~")) and not folder.exists():
        return Source(path)
    if (folder / ADAPTER).exists():
        return Source(locate(name, _base_of(name, folder)).model, str(folder))
    if not (folder / "config.json").exists():
        state = "has no config.json" if folder.exists() else "does not exist"
        raise InterpError(
            f"checkpoints.{name} = {path}: the folder {state}; give a Hugging Face model folder or hub id"
        )
    return Source(str(folder))


def _folder(name: str, path: str) -> Path:
    try:
        folder = Path(path).expanduser()
        folder.exists()  # a name that is too long raises here
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InterpError(
            f"checkpoints.{name} = {path[:80]}: not a path ({reason}); give a folder or hub id"
        ) from error
    return folder


def _base_of(name: str, folder: Path) -> str:
    """The whole model that adapters were trained on: a folder, hub id or fetched model."""
    try:
        base = json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise InterpError(f"checkpoints.{name}: {folder / ADAPTER} names no base; save the adapters again") from error
    if not isinstance(base, str) or not base:
        raise InterpError(f"checkpoints.{name}: {folder / ADAPTER} names no base; save the adapters again")
    if (_folder(name, base) / ADAPTER).exists():
        raise InterpError(
            f"checkpoints.{name}: {folder / ADAPTER} names {base} as its base, which holds adapters too; "
            "merge those into their own base and name the merged model"
        )
    return base
