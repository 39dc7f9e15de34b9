"""Trainings one after the other or side by side, with a bar for every one."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import Any

from interp.progress import bars

Tick = Callable[[int], None]
"""Hears how many updates are done."""


@dataclass(frozen=True)
class Job:
    """One training. Where several run side by side, `work` is called in another process, so it must be picklable."""

    name: str
    steps: int
    work: Callable[[Tick], None]


@dataclass(frozen=True)
class _Post:
    """Sends a job's ticks to the process that shows them."""

    queue: Any
    name: str

    def __call__(self, done: int) -> None:
        self.queue.put((self.name, done))


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """Run jobs in their order, `workers` at a time; a single worker is this process."""
    with bars() as progress:
        tasks = {job.name: progress.add_task(f"training {job.name}", total=job.steps, note="") for job in jobs}

        def show(name: str, done: int) -> None:
            progress.update(tasks[name], completed=done)

        if workers > 1:
            _side_by_side(jobs, workers, show)
        else:
            for job in jobs:
                job.work(partial(show, job.name))


def _side_by_side(jobs: Sequence[Job], workers: int, show: Callable[[str, int], None]) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        queue = manager.Queue()
        waiting = {pool.submit(job.work, _Post(queue, job.name)) for job in jobs}
        while waiting:
            with contextlib.suppress(Empty):
                show(*queue.get(timeout=0.5))
            for future in [f for f in waiting if f.done()]:
                waiting.remove(future)
                future.result()
