"""Jobs side by side: ticks arrive, failures are raised, and no worker outlives its parent, an error or Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from interp.errors import InterpError
from interp.models.jobs import Job, run_jobs

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from functools import partial
from pathlib import Path
from interp.models.jobs import Job, run_jobs
from tests.models.test_jobs import linger
if __name__ == "__main__":
    run_jobs([Job(str(i), 1, partial(linger, Path({out!r}) / str(i))) for i in range(2)], 2)
"""
INTERRUPTED = """
import signal, sys
sys.path.insert(0, {root!r})
from functools import partial
from pathlib import Path
from interp.models.jobs import Job, run_jobs
from tests.models.test_jobs import linger
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_jobs([Job(str(i), 1, partial(linger, Path({out!r}) / str(i))) for i in range(3)], 2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def write(path, tick):
    for done in (1, 2, 3):
        tick(done)
    path.write_text(f"{os.getpid()}")


def after(earlier, path, tick):
    assert earlier.exists()
    write(path, tick)


def fail(tick):
    raise ValueError("in the job")


def linger(path, tick):
    path.write_text(str(os.getpid()))
    time.sleep(60)
    path.with_suffix(".ended").touch()


def fail_beside(path, tick):
    wait_for([path])
    raise ValueError("in the job")


def die_beside(path, tick):
    wait_for([path])
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(files):
    until = time.time() + 60
    while not all(f.exists() and f.read_text() for f in files) and time.time() < until:
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_in_this_process_or_in_others(workers, tmp_path):
    paths = [tmp_path / str(i) for i in range(3)]
    run_jobs([Job(path.name, 3, partial(write, path)) for path in paths], workers)
    assert all((int(path.read_text()) == os.getpid()) == (workers == 1) for path in paths)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_is_raised(workers):
    with pytest.raises(ValueError, match="in the job"):
        run_jobs([Job("fails", 1, fail)], workers)


def test_nothing_to_do_is_nothing():
    run_jobs([], 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_waits_for_what_it_needs(workers, tmp_path):
    first, second, third = (tmp_path / str(i) for i in range(3))
    jobs = [Job("first", 3, partial(write, first)), Job("second", 3, partial(after, first, second), (first,))]
    run_jobs([*jobs, Job("third", 3, partial(after, second, third), (second,))], workers)
    assert third.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_needs_what_nobody_makes_is_refused(workers, tmp_path):
    with pytest.raises(ValueError, match=r"second: no job makes .*nowhere"):
        run_jobs([Job("second", 3, partial(write, tmp_path / "it"), (tmp_path / "nowhere",))], workers)


def alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc who lives")
def test_workers_end_with_a_killed_parent(tmp_path):
    root = str(Path.cwd())
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT.format(root=root, out=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)], cwd=root)
    files = [tmp_path / "0", tmp_path / "1"]
    wait_for(files)
    pids = [int(f.read_text()) for f in files]
    assert all(map(alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=10)
    until = time.time() + 20
    while any(map(alive, pids)) and time.time() < until:
        time.sleep(0.1)
    assert not any(map(alive, pids))


def test_ctrl_c_ends_every_worker_and_begins_no_further_job(tmp_path):
    """The signal goes to the whole process group, as a terminal sends it. Each job would take a minute."""
    root = str(Path.cwd())
    script = tmp_path / "parent.py"
    script.write_text(INTERRUPTED.format(root=root, out=str(tmp_path)))
    command = [sys.executable, str(script)]
    parent = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True)
    files = [tmp_path / "0", tmp_path / "1"]
    wait_for(files)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode == 130
    assert "Traceback" not in errors
    assert not any(alive(int(file.read_text())) for file in files)
    assert not list(tmp_path.glob("*.ended")) and not (tmp_path / "2").exists()


def test_an_error_of_one_job_ends_the_others(tmp_path):
    other = tmp_path / "other"
    with pytest.raises(ValueError, match="in the job"):
        run_jobs([Job("lingers", 1, partial(linger, other)), Job("fails", 1, partial(fail_beside, other))], 2)
    assert not alive(int(other.read_text())) and not other.with_suffix(".ended").exists()


def test_a_killed_worker_is_one_line(tmp_path):
    other = tmp_path / "other"
    with pytest.raises(InterpError, match=r"a worker process was killed, .* memory is short; lower threads") as caught:
        run_jobs([Job("lingers", 1, partial(linger, other)), Job("dies", 1, partial(die_beside, other))], 2)
    assert "dies" in str(caught.value) and "\n" not in str(caught.value)
    assert not alive(int(other.read_text()))
