"""Trainings one after the other in this process, or side by side in others, with a progress bar for each."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

from interp.errors import InterpError
from interp.progress import bars
from interp.workers import PATIENCE, Pool, killed, pool

Tick = Callable[[int], None]
"""Callback(number of updates done)."""


@dataclass(frozen=True)
class Job:
    """One training. `work` is called in another process where several jobs run at a time, so it must be picklable."""

    name: str
    steps: int
    work: Callable[[Tick], None]
    needs: tuple[Path, ...] = ()
    """Files or folders that must exist before the job begins; other jobs may write them."""


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """Run jobs, at most `workers` at a time, each as soon as its needs exist; a single worker is this process.

    Ctrl-C and an error of any job end the other jobs at once.

    Raises:
        ValueError: a job needs a path that neither exists nor is written by a job before it.
        InterpError: the system killed a worker, as it does when memory is short.
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
    ticks = multiprocessing.get_context("spawn").Queue()
    running: dict[Future[None], Job] = {}
    try:
        with pool(workers, _report_to, ticks) as team:
            _run(team, list(jobs), running, ticks, show)
    except BrokenProcessPool as error:
        names = ", ".join(job.name for job in running.values())
        lower = "threads (models trained at a time) or micro_batch"
        raise InterpError(killed(f"training {names}: ", lower)) from error


def _run(team: Pool, later: list[Job], running: dict[Future[None], Job], ticks: Any, show: Any) -> None:
    """Submit every job once it is ready, until all are done; `running` always holds the jobs under way."""
    while later or running:
        ready = [job for job in later if _ready(job)]
        later = [job for job in later if job not in ready]
        running |= {team.submit(_work, job): job for job in ready}
        if not running:
            raise _stuck(later)
        with contextlib.suppress(Empty):
            show(*ticks.get(timeout=PATIENCE))
        for future in [f for f in running if f.done()]:
            future.result()
            del running[future]
        if running:
            team.check()


def _ready(job: Job) -> bool:
    return all(path.exists() for path in job.needs)


def _stuck(jobs: Sequence[Job]) -> ValueError:
    missing = {str(path) for job in jobs for path in job.needs if not path.exists()}
    return ValueError(f"{', '.join(job.name for job in jobs)}: no job makes {', '.join(sorted(missing))}")


def _report_to(ticks: Any) -> None:
    _ticks.append(ticks)


def _work(job: Job) -> None:
    job.work(lambda done: _ticks[-1].put((job.name, done)))


_ticks: list[Any] = []
"""In a worker, the queue of its ticks."""
