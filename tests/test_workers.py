"""Work shared out: every result arrives, from processes with their share of the threads that end with an error."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import pytest
import torch

from interp import workers
from interp.errors import InterpError
from interp.workers import Pool, _interrupts_ignored, beside, crew, in_turn, pool
from tests.models.test_jobs import alive


def where(_):
    return os.getpid(), torch.get_num_threads()


def nothing():
    pass


class Slow:
    """Takes a second to be read, and counts how often it is."""

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def __call__(self, item):
        return item


def linger(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def die_beside(folder):
    """Die as soon as another worker is at work; the first two to come are one of each."""
    mine = folder / str(os.getpid())
    mine.touch()
    until = time.time() + 60
    while len(list(folder.iterdir())) < 2 and time.time() < until:
        time.sleep(0.05)
    if mine == max(folder.iterdir()):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_every_result_comes_from_two_processes_of_so_many_threads():
    shift = 3
    with crew(2, 1, "n") as spread:
        assert sorted(spread(lambda x: x + shift, range(40))) == [x + shift for x in range(40)]
        found = set(spread(lambda x: (time.sleep(0.2), where(x))[1], range(8)))
    assert len({pid for pid, _ in found}) == 2 and os.getpid() not in {pid for pid, _ in found}
    assert {threads for _, threads in found} == {1}
    assert not any(alive(pid) for pid, _ in found)


def test_the_threads_are_each_processs_own():
    with crew(2, 3, "n") as spread:
        assert {threads for _, threads in spread(where, range(4))} == {3}


def test_a_single_worker_is_this_process_with_its_own_threads_for_a_while():
    before = torch.get_num_threads()
    with crew(1, before + 1, "n") as spread:
        assert list(spread(where, [0])) == [(os.getpid(), before + 1)]
    assert torch.get_num_threads() == before
    with crew(1, None, "n") as spread:
        assert list(spread(where, [0])) == [(os.getpid(), before)]


def test_one_process_works_beside_the_block_on_its_own_threads(tmp_path):
    before = torch.get_num_threads()

    def work():
        (tmp_path / "begun").touch()
        return where(None)

    with beside(work, before + 2, "n") as result:
        until = time.time() + 60
        while not (tmp_path / "begun").exists() and time.time() < until:
            time.sleep(0.05)
        assert (tmp_path / "begun").exists(), "it does not wait to be asked"
        pid, threads = result()
    assert pid != os.getpid() and threads == before + 2 and torch.get_num_threads() == before
    assert not alive(pid)


def test_an_error_in_the_block_ends_the_process_beside_it(tmp_path):
    with pytest.raises(ValueError, match="in the block"), beside(partial(linger, tmp_path), 1, "n"):
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        raise ValueError("in the block")
    assert not any(alive(int(path.name)) for path in tmp_path.iterdir())


def test_what_is_to_be_done_is_read_once_in_each_process(tmp_path):
    work = Slow(tmp_path)
    with crew(2, None, "n") as spread:
        for _ in range(3):
            assert sorted(spread(work, range(10))) == list(range(10))
    readers = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert 1 <= len(readers) <= 2 and len(set(readers)) == len(readers)


def test_nothing_to_do_starts_nothing(tmp_path):
    with crew(2, None, "n") as spread:
        assert list(spread(Slow(tmp_path), [])) == []
        assert not multiprocessing.active_children()


@pytest.mark.parametrize("n", [1, 2])
def test_an_error_is_raised_and_ends_the_others(n, tmp_path):
    def fail(item):
        if item == 0:
            while n > 1 and not list(tmp_path.iterdir()):
                time.sleep(0.05)
            raise ValueError("in the work")
        return linger(tmp_path)

    with pytest.raises(ValueError, match="in the work"), crew(n, None, "n") as spread:
        list(spread(fail, [0, 1]))
    assert not any(alive(int(path.name)) for path in tmp_path.iterdir())


def test_an_error_of_the_one_who_waits_ends_the_workers(tmp_path):
    def first_done(item):
        return item if item == 0 else linger(tmp_path)

    with pytest.raises(KeyboardInterrupt), crew(2, None, "n") as spread:
        for _ in spread(first_done, [0, 1]):
            while not list(tmp_path.iterdir()):
                time.sleep(0.05)
            raise KeyboardInterrupt
    assert not any(alive(int(path.name)) for path in tmp_path.iterdir())


def test_a_killed_worker_is_one_line(tmp_path):
    line = r"a worker process was killed, .*; lower rows or n and run again"
    with pytest.raises(InterpError, match=line) as caught, crew(2, None, "rows or n") as spread:
        list(spread(die_beside, [tmp_path] * 2))
    assert "\n" not in str(caught.value)
    assert not any(alive(int(path.name)) for path in tmp_path.iterdir())


@pytest.mark.parametrize("way", ["results", "check"])
def test_a_worker_that_the_executor_does_not_miss_is_missed(way, monkeypatch):
    """As where a worker is killed before the executor watches it: its future never ends."""
    monkeypatch.setattr(workers, "PATIENCE", 0.05)
    context = multiprocessing.get_context("spawn")

    class Executor:
        def submit(self, work, *args):
            self.worker = context.Process(target=os.abort)
            self.worker.start()
            return Future()

    team = Pool(executor := Executor())
    future = team.submit(nothing)
    with pytest.raises(BrokenProcessPool):
        if way == "results":
            list(team.results([future]))
        executor.worker.join()
        team.check()


def test_a_pool_begins_every_process():
    with pool(2, torch.set_num_threads, 2) as team:
        assert {threads for _, threads in team.results([team.submit(where, i) for i in range(4)])} == {2}


def test_in_turn_is_in_order():
    assert list(in_turn(lambda x: x * x, range(4))) == [0, 1, 4, 9]


def test_a_second_ctrl_c_is_ignored_while_the_first_is_answered():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _interrupts_ignored():
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
