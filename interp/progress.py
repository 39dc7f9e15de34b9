"""Progress bars with the remaining time, on standard error, silent where there is no one to see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


class Bar:
    """One bar; `advance` and `say` may be called from anywhere in the loop it counts."""

    def __init__(self, progress: Progress, description: str, total: int):
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)

    def to(self, completed: int, note: str = "") -> None:
        self._progress.update(self._task, completed=completed, note=note)

    def say(self, note: str) -> None:
        self._progress.update(self._task, note=note)


@contextmanager
def bars() -> Iterator[Progress]:
    """A group of bars."""
    columns = (
        TextColumn("  {task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield progress


@contextmanager
def bar(description: str, total: int) -> Iterator[Bar]:
    """One bar for one loop."""
    with bars() as progress:
        yield Bar(progress, description, total)
