"""Where a checkpoint's parts lie: a folder, a hub id, adapters on a base, or a model that is fetched by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from interp.errors import InterpError
from interp.models.smollm2 import FETCHED

ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """A whole model, and low-rank adapters to put on it, if any."""

    model: str
    """Folder or hub id with config, weights and tokenizer."""
    adapter: str | None = None
    """Folder of the adapters."""


def locate(name: str, path: str) -> Source:
    """The parts of the checkpoint that a config calls `path`; `name` is its arm, for complaints.

    Raises:
        InterpError: a folder that is not there or holds no model, or adapters that do not name their base.
    """
    if path in FETCHED:
        return Source(FETCHED[path]())
    folder = Path(path).expanduser()
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


def _base_of(name: str, folder: Path) -> str:
    try:
        base = json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
    except (ValueError, KeyError) as error:
        raise InterpError(f"checkpoints.{name}: {folder / ADAPTER} names no base; save the adapters again") from error
    return str(base)
