"""Trainings one after the other or side by side, with a bar for every one that has begun."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
    needs: tuple[Path, ...] = ()
    """What other jobs make that must be there first."""


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """Run jobs, `workers` at a time, each as soon as what it needs is there; a single worker is this process.

    Raises:
        ValueError: a job needs what is not there and what no job before it makes.
    """
    with bars() as progress:
        tasks = {
            job.name: progress.add_task(f"training {job.name}", total=job.steps, note="", start=False, visible=False)
            for job in jobs
        }

        def show(name: str, done: int) -> None:
            progress.start_task(tasks[name])
            progress.update(tasks[name], completed=done, visible=True)

        if workers > 1:
            _side_by_side(jobs, workers, show)
        else:
            for job in jobs:
                if not _ready(job):
                    raise _stuck([job])
                job.work(partial(show, job.name))


def _side_by_side(jobs: Sequence[Job], workers: int, show: Callable[[str, int], None]) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(queue,)) as pool:
        later, running = list(jobs), set()
        while later or running:
            ready = [_ready(job) for job in later]
            running |= {pool.submit(_work, job) for job, now in zip(later, ready, strict=True) if now}
            later = [job for job, now in zip(later, ready, strict=True) if not now]
            if not running:
                raise _stuck(later)
            with contextlib.suppress(Empty):
                show(*queue.get(timeout=0.5))
            for future in [f for f in running if f.done()]:
                running.remove(future)
                future.result()


def _ready(job: Job) -> bool:
    return all(path.exists() for path in job.needs)


def _stuck(jobs: Sequence[Job]) -> ValueError:
    missing = {str(path) for job in jobs for path in job.needs if not path.exists()}
    return ValueError(f"{', '.join(job.name for job in jobs)}: no job makes {', '.join(sorted(missing))}")


def _begin(queue: Any) -> None:
    """Set a worker up: where its ticks go, and that it does not outlive the process it works for."""
    _ticks.append(queue)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # no clean-up: whoever was to be told is gone


def _work(job: Job) -> None:
    job.work(lambda done: _ticks[-1].put((job.name, done)))


_ticks: list[Any] = []
"""In a worker, the queue of its ticks."""
