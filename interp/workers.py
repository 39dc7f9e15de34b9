"""Work side by side in other processes. They end with this one, with an error and at Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import cloudpickle

from interp.errors import InterpError

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE = 0.5
"""Seconds after which a waiting parent looks whether its workers live."""


@runtime_checkable
class Spread(Protocol):
    """How pieces of work are shared out."""

    def __call__(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work(item)` of every item, each as soon as it is there, in any order."""
        ...


def in_turn(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """One after the other, in this process."""
    return map(work, items)


@contextmanager
def crew(workers: int, threads: int | None, lower: str) -> Iterator[Spread]:
    """Share work out over this many processes of `threads` CPU threads each (None leaves them as they are); a single
    one is this process. They start with the first piece of work and end with the block.

    What they are to do is pickled once, functions without a name too. Tensors are copied, since the shared memory of a
    container is often too small for a model.

    Args:
        lower: what to lower where memory is short; for the message.

    Raises:
        InterpError: the system killed a worker, as it does when memory is short.
    """
    with _others(workers, threads, lower) if workers > 1 else _this_one(threads) as spread:
        yield spread


@contextmanager
def beside(work: Callable[[], Result], threads: int, lower: str) -> Iterator[Callable[[], Result]]:
    """Let another process of `threads` CPU threads do a piece of work while the block goes on; what is yielded waits
    for its result. `lower` and the error are those of `crew`."""
    with _others(1, threads, lower) as spread:
        results = spread(partial(_call, work), [None])
        yield lambda: next(results)


def _call(work: Callable[[], Result], _: None) -> Result:
    return work()


@contextmanager
def _this_one(threads: int | None) -> Iterator[Spread]:
    import torch

    before = torch.get_num_threads()
    _set_threads(threads)
    try:
        yield in_turn
    finally:
        torch.set_num_threads(before)


@contextmanager
def _others(workers: int, threads: int | None, lower: str) -> Iterator[Spread]:
    with tempfile.TemporaryDirectory() as folder, pool(workers, _set_threads, threads) as team:
        known: list[Any] = []

        def file_of(work: Any) -> Path:
            # By identity: the workers keep what they have read, and need not read it again.
            number = next((i for i, one in enumerate(known) if one is work), len(known))
            if number == len(known):
                known.append(work)
                (Path(folder) / str(number)).write_bytes(cloudpickle.dumps(work))
            return Path(folder) / str(number)

        def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
            return team.results([team.submit(_do, file_of(work), item) for item in items])

        try:
            yield spread
        except BrokenProcessPool as error:
            raise InterpError(killed("", lower)) from error


def killed(what: str, lower: str) -> str:
    """What is said of a worker that the system killed."""
    return (
        f"{what}a worker process was killed, as the system does when memory is short; lower {lower} and run again "
        "(what is finished is kept)"
    )


class Pool:
    """A pool of processes that notices every worker that ends by itself."""

    def __init__(self, executor: Any):
        self._executor, self._workers = executor, set[Any]()
        self._others = set(multiprocessing.active_children())

    def submit(self, work: Callable[..., Result], *args: Any) -> Future[Result]:
        with _interrupts_withheld():
            future = self._executor.submit(work, *args)
        self._workers |= set(multiprocessing.active_children()) - self._others
        return future

    def check(self) -> None:
        """Notice a worker that has ended. The executor's own watch misses one that ends right after it is started,
        until another one ends.

        Raises:
            BrokenProcessPool: a worker has ended.
        """
        if any(worker.exitcode for worker in self._workers):
            raise BrokenProcessPool

    def results(self, futures: Sequence[Future[Result]]) -> Iterator[Result]:
        """Each future's result, as soon as it is there."""
        left, futures = set(futures), ()  # a result is let go once it is taken
        while left:
            done, left = wait(left, PATIENCE, FIRST_COMPLETED)
            yield from (future.result() for future in done)
            if left:
                self.check()

    def end(self) -> None:
        """End the workers at once, whatever they are doing."""
        with _interrupts_ignored():
            self._executor.shutdown(wait=False, cancel_futures=True)
            workers = set(multiprocessing.active_children()) - self._others
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join(timeout=1)
                worker.kill()


@contextmanager
def pool(workers: int, begin: Callable[..., None], *args: Any) -> Iterator[Pool]:
    """Processes that first call `begin(*args)`; an error in the block and Ctrl-C end them at once."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(begin, args))
    team = Pool(executor)
    try:
        yield team
        executor.shutdown()
    except BaseException:
        team.end()
        raise


def _begin(begin: Callable[..., None], args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*args)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # without clean-up, which could wait for a reader that no longer exists


def _do(file: Path, item: Any) -> Any:
    return _read(file)(item)


@lru_cache(maxsize=1)
def _read(file: Path) -> Callable[[Any], Any]:
    """In a worker, what it is to do."""
    return cloudpickle.loads(file.read_bytes())


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def _interrupts_withheld() -> Iterator[None]:
    """Block SIGINT in this thread, so that processes started here never receive it: Ctrl-C in a terminal goes to the
    whole process group, and only the parent shall answer it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
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
