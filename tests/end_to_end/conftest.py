"""One tiny study, run once through the installed command, and shared by the tests that only read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

CONFIG = Path(__file__).parents[2] / "experiments" / "configs" / "tiny.yaml"


def interp(*words: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a process of its own."""
    command = [sys.executable, "-m", "interp.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of a finished study, which test processes that run side by side share."""
    own = tmp_path_factory.getbasetemp()
    out = (own if worker_id == "master" else own.parent) / "tiny"
    with FileLock(f"{out}.lock"):
        if not (out / "report").exists():
            done = interp("study", CONFIG, "--out", out)
            assert done.returncode == 0, done.stderr
    return out
