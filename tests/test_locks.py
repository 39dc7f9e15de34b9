"""Two processes never write into one folder, and a process that is killed locks nobody out."""

import os
import signal
import time

import pytest

from interp.errors import InterpError
from interp.folders import publish, writing
from interp.locks import locked
from tests.forks import in_child, status


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("key", ["mine", "other"])
def test_a_second_run_is_refused_and_the_first_ends_as_if_alone(tmp_path, key):
    """Whether or not the two have the same key: the second would remove the first one's files, or write into them."""
    folder = tmp_path / "study" / "traces"

    def first():
        with writing(folder, "mine") as scratch:
            (scratch / "half").write_text("of the first")
            (tmp_path / "begun").touch()
            wait_for(tmp_path / "refused")
            (scratch / "rest").write_text("of the first")
            publish(scratch, folder, {"config_hash": "mine"})

    child = in_child(first)
    wait_for(tmp_path / "begun")
    with pytest.raises(InterpError) as caught, writing(folder, key):
        raise AssertionError
    (tmp_path / "refused").touch()
    assert status(child) == 0
    said = str(caught.value)
    assert str(folder) in said and f"process {child}" in said and "--out" in said and "\n" not in said
    assert {p.name: p.read_text() for p in folder.iterdir() if p.suffix == ""} == dict.fromkeys(
        ("half", "rest"), "of the first"
    )
    assert names(folder.parent) == ["traces"]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    folder = tmp_path / "traces"

    def killed():
        with writing(folder, "k") as scratch:
            (scratch / "done").write_text("done")
            os.kill(os.getpid(), signal.SIGKILL)

    assert status(in_child(killed)) == -signal.SIGKILL
    with writing(folder, "k") as scratch:
        assert (scratch / "done").read_text() == "done"
        publish(scratch, folder, {"config_hash": "k"})
    assert names(tmp_path) == ["traces"]


def test_folders_have_locks_of_their_own(tmp_path):
    with locked(tmp_path / "traces"), locked(tmp_path / "causal"):
        assert names(tmp_path) == [".causal.lock", ".traces.lock"]
    assert names(tmp_path) == []


def test_a_lock_on_a_file_that_its_last_holder_removed_does_not_count(tmp_path, monkeypatch):
    """The holder removes the file between another's opening and locking it; a third may lock a new file of the name."""
    path, real, opened = tmp_path / ".traces.lock", os.open, []

    def slow(*given):
        opened.append(real(*given))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    with monkeypatch.context() as patched:
        patched.setattr("interp.locks.os.open", slow)
        lock = locked(tmp_path / "traces")
        lock.__enter__()
    assert len(opened) == 2
    with pytest.raises(InterpError, match="another run"), locked(tmp_path / "traces"):
        raise AssertionError
    lock.__exit__(None, None, None)


def test_at_no_time_do_two_hold_it(tmp_path):
    """Processes that come and go as fast as they can: none finds another's mark inside."""

    def often():
        entered = 0
        while entered < 100:
            try:
                with locked(tmp_path / "traces"):
                    (tmp_path / "inside").mkdir()
                    (tmp_path / "inside").rmdir()
                    entered += 1
            except InterpError:
                pass

    children = [in_child(often) for _ in range(4)]
    assert [status(child) for child in children] == [0] * 4


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("interp.locks.fcntl.flock", none)
    with pytest.raises(InterpError, match="has no locks"), locked(tmp_path / "traces"):
        raise AssertionError
