"""Verifiable problems and their graders. A new task is one file here and one line in `open`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError, nearest

if TYPE_CHECKING:
    from interp.tasks.base import Task

KINDS = ("chains", "prose_sums", "tracking", "lists", "reasoning_gym", "gsm8k", "math500", "aime")
"""Tasks that are opened by name; every other source is a file."""


def open(
    source: str | Path,
    *,
    prompt: str = "{question}",
    modulus: int | None = None,
    terms: int = 5,
    data_set: str = "",
    options: Mapping[str, Any] | None = None,
) -> Task:
    """A task by its name (one of `KINDS`), or the problems of a JSONL or Parquet file.

    `prompt` says how a question becomes a prompt and `modulus` which arithmetic the equations of the traces follow (all
    but the tasks of organisms); `terms` is the length of theirs; `data_set` and `options` are reasoning-gym's.

    Raises:
        InterpError: neither a known name nor a file.
    """
    from interp.tasks.chains import ChainTask
    from interp.tasks.file import FileTask
    from interp.tasks.gym import GymTask
    from interp.tasks.hub import HubTask
    from interp.tasks.lists import ListTask
    from interp.tasks.prose_sums import ProseSumTask
    from interp.tasks.tracking import TrackingTask

    made: dict[str | Path, Callable[[int], Task]] = {
        "chains": ChainTask,
        "prose_sums": ProseSumTask,
        "tracking": TrackingTask,
        "lists": ListTask,
    }
    if source in made:
        return made[source](terms)
    if source == "reasoning_gym":
        return GymTask(data_set, options or {}, prompt=prompt, modulus=modulus)
    if source in KINDS:
        return HubTask(str(source), prompt=prompt, modulus=modulus)
    if Path(source).suffix not in (".jsonl", ".parquet") and not Path(source).exists():
        raise InterpError(f"task {str(source)!r}: neither a file nor a task; {nearest(str(source), KINDS)}")
    return FileTask(Path(source), prompt=prompt, modulus=modulus)
