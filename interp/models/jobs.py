"""Trainings one after the other in this process, or side by side in others, with a progress bar for each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

from interp.errors import InterpError
from interp.progress import bars

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
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    others, running = set(multiprocessing.active_children()), dict[Future[None], Job]()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(ticks,))
    try:
        _run(pool, list(jobs), running, ticks, show, others)
        pool.shutdown()
    except BaseException as error:
        with _interrupts_ignored():
            pool.shutdown(wait=False, cancel_futures=True)
            _terminate(set(multiprocessing.active_children()) - others)
        if isinstance(error, BrokenProcessPool):
            names = ", ".join(job.name for job in running.values())
            raise InterpError(
                f"training {names}: a worker process was killed, as the system does when memory is short; lower "
                "threads (models trained at a time) or micro_batch and run again (finished models are kept)"
            ) from error
        raise


def _run(
    pool: ProcessPoolExecutor,
    later: list[Job],
    running: dict[Future[None], Job],
    ticks: Any,
    show: Any,
    others: Collection[Any] = (),
) -> None:
    """Submit every job once it is ready, until all are done; `running` always holds the jobs under way. `others` are
    this process's children that are none of the pool's."""
    workers: set[Any] = set()
    while later or running:
        ready = [job for job in later if _ready(job)]
        later = [job for job in later if job not in ready]
        with _interrupts_withheld():
            running |= {pool.submit(_work, job): job for job in ready}
        workers |= set(multiprocessing.active_children()) - set(others)
        if not running:
            raise _stuck(later)
        with contextlib.suppress(Empty):
            show(*ticks.get(timeout=0.5))
        for future in [f for f in running if f.done()]:
            future.result()
            del running[future]
        # The pool's own watch misses a worker that ends right after it is started, until another one ends.
        if running and any(worker.exitcode for worker in workers):
            raise BrokenProcessPool


def _ready(job: Job) -> bool:
    return all(path.exists() for path in job.needs)


def _stuck(jobs: Sequence[Job]) -> ValueError:
    missing = {str(path) for job in jobs for path in job.needs if not path.exists()}
    return ValueError(f"{', '.join(job.name for job in jobs)}: no job makes {', '.join(sorted(missing))}")


def _terminate(workers: set[Any]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(timeout=1)
        worker.kill()


@contextlib.contextmanager
def _interrupts_withheld() -> Iterator[None]:
    """Block SIGINT in this thread, so that processes started here never receive it: Ctrl-C in a terminal goes to the
    whole process group, and only the parent shall answer it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore a second Ctrl-C while the first is being answered; handlers belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(ticks: Any) -> None:
    """Initialise a worker: it reports to the queue `ticks`, and ends with its parent."""
    _ticks.append(ticks)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # without clean-up, which could wait for a reader that no longer exists


def _work(job: Job) -> None:
    job.work(lambda done: _ticks[-1].put((job.name, done)))


_ticks: list[Any] = []
"""In a worker, the queue of its ticks."""
