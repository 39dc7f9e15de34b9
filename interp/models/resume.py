"""A trainer's saved states: where they are kept, and which of them an interrupted run resumes from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from interp.progress import console


@dataclass(frozen=True)
class Resume:
    """Folder of a trainer's saved states, and the number of updates between two of them."""

    folder: Path
    every: int


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete `checkpoint-N` in `folder`, None without one; all others are removed.

    A run that is killed while it saves leaves an incomplete folder, from which transformers cannot resume.
    """
    steps = {path: _step(path) for path in folder.glob("checkpoint-*")}
    newest = max((path for path, step in steps.items() if step), key=lambda path: steps[path] or 0, default=None)
    for path in steps.keys() - {newest}:
        shutil.rmtree(path)
    if steps:
        torn = "".join(f"; {path.name} is incomplete and was removed" for path, step in steps.items() if not step)
        console.print(f"  training: resuming {f'from {newest.name}' if newest else 'from the first update'}{torn}")
    return newest


def _step(checkpoint: Path) -> int | None:
    """Updates done at a saved state; None if it is incomplete. Transformers writes `trainer_state.json` last."""
    try:
        return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
