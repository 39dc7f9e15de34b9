"""One tiny study, run once through the installed command, and shared by the tests that only read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parent / "tiny.yaml"


def interp(*words: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a process of its own."""
    command = [sys.executable, "-m", "interp.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    done = interp("study", CONFIG, "--out", out)
    assert done.returncode == 0, done.stderr
    return out
