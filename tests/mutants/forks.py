"""Test files run in forked children: the parent has imported the heavy libraries, a child imports `interp` anew."""

from __future__ import annotations

import math
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

LIBRARIES = (
    *("torch", "torch.utils.data", "torch._dynamo", "numpy", "scipy.stats", "scipy.sparse", "sklearn", "polars"),
    *("pydantic", "yaml", "jaxtyping", "beartype", "einops", "safetensors.torch", "huggingface_hub", "rich.progress"),
    *("transformers", "transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
    *("transformers.trainer", "datasets", "accelerate", "peft", "trl", "trl.trainer.sft_trainer"),
    *("trl.trainer.grpo_trainer", "transformer_lens.model_bridge", "sae_lens", "math_verify", "matplotlib.pyplot"),
    *("jinja2", "tyro", "pytest", "hypothesis", "_pytest.assertion.rewrite", "hypothesis.extra.numpy"),
)
"""Imported once, in the parent. A library that is missing here is only slower."""
UNCOPIED = (".git", ".venv", "results", "build", "*.egg-info", ".*_cache", ".hypothesis", "__pycache__")
MEMORY = 12 << 30
"""Bytes a child may take: a mutant may ask for any number."""
NO_TESTS, FOREIGN = 5, 99
"""Exit codes: pytest's for a file without tests; ours where `interp` was not that of the copied tree."""


@dataclass(frozen=True)
class Ended:
    """One test file in one child."""

    passed: bool
    no_tests: bool
    timed_out: bool
    seconds: float
    log: str


Steps = Generator[tuple[str, float], Ended, None]
Trial = Callable[[Path], Steps]
"""Given a tree of its own, yields (tests, seconds allowed) and is sent how they ended."""


def preload() -> None:
    """Import the heavy libraries."""
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)


@contextmanager
def copies(root: Path, n: int) -> Iterator[list[Path]]:
    """`n` copies of the working tree, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [Path(folder) / str(i) for i in range(n)]
        for tree in trees:
            shutil.copytree(root, tree, ignore=shutil.ignore_patterns(*UNCOPIED), symlinks=True)
        yield trees


@contextmanager
def changed(tree: Path, file: str, text: str) -> Iterator[None]:
    """One file of a copied tree with another text, and then as it was. Its compiled forms go both times: they are
    recognised by size and second, which a mutant can share with the original."""
    path = tree / file
    original = path.read_text()
    try:
        path.write_text(text)
        _forget_compiled(path)
        yield
    finally:
        path.write_text(original)
        _forget_compiled(path)


def _forget_compiled(path: Path) -> None:
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()


def run(trials: Iterable[Trial], trees: list[Path]) -> None:
    """Run all trials, as many at a time as there are trees, each in a tree of its own."""
    waiting, free, running = iter(trials), list(trees), {}
    try:
        while True:
            while free and (trial := next(waiting, None)) is not None:
                tree = free.pop()
                _advance(trial(tree), None, tree, running, free)
            if not running:
                return
            pid, status = os.wait()
            _kill_group(pid)
            steps, tree, begun = running.pop(pid)
            _advance(steps, _ended(status, begun, tree), tree, running, free)
    finally:
        for pid in running:
            _kill_group(pid)


def _advance(steps: Steps, ended: Ended | None, tree: Path, running: dict, free: list[Path]) -> None:
    """Take a trial to its next test file, or to its end."""
    try:
        tests, limit = next(steps) if ended is None else steps.send(ended)
    except StopIteration:
        free.append(tree)
        return
    begun = time.monotonic()
    running[_fork(tree, tests, limit)] = steps, tree, begun


def _ended(status: int, begun: float, tree: Path) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    if code == FOREIGN:
        raise RuntimeError(f"the tests did not import interp from {tree}")
    log = _log(tree).read_text(errors="replace")
    seconds = time.monotonic() - begun
    return Ended(code in (0, NO_TESTS), code == NO_TESTS, code == -signal.SIGALRM, seconds, log)


def _log(tree: Path) -> Path:
    return tree.with_suffix(".log")


def _kill_group(pid: int) -> None:
    """End whatever a child has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _fork(tree: Path, tests: str, limit: float) -> int:
    """The process that runs some tests of a tree; the alarm ends it after `limit` seconds."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        os.setsid()
        signal.alarm(math.ceil(limit))
        _enter(tree)
        code = _pytest(tree, tests)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _enter(tree: Path) -> None:
    """Make the copied tree the one that `interp` is imported from, here and in processes started here."""
    nowhere, log = os.open(os.devnull, os.O_RDONLY), os.open(_log(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nowhere, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    own_tests = Path(__file__).parents[1]
    sys.path[:] = [str(tree), *(entry for entry in sys.path if Path(entry or ".").resolve() != own_tests)]
    sys.argv, sys.modules["__main__"] = ["pytest"], ModuleType("__main__")  # so that spawned processes do not run ours
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mutants", "interp")]:
        del sys.modules[name]


def _pytest(tree: Path, tests: str) -> int:
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--basetemp={tree.with_suffix('.tmp')}"]
    code = int(pytest.main([*shlex.split(tests), *options]))
    package = sys.modules.get("interp")
    home = Path(str(package.__file__)).parents[1] if package else tree
    return code if home == tree else FOREIGN
