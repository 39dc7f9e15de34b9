"""Which test files are run for a module: its own, those that import it, then the rest of its package's."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

SLOW = ("tests/end_to_end", "tests/mutants")
"""Never run for a random mutant."""
FAR = 4
"""Distance of a test file that is not run."""


def matching(root: Path, file: str, seconds: Mapping[str, float]) -> list[str]:
    """Test files of `interp/A/B.py`, nearest first: those called after it, those that import it, all others of
    `tests/A`; among equally near ones those that take the fewest seconds first."""
    near = [(_distance(root, file, test), seconds.get(test, 0.0), test) for test in test_files(root)]
    return [test for far, _, test in sorted(near) if far < FAR]


def _distance(root: Path, file: str, test: str) -> int:
    package, name = Path(file).parts[1:-1], Path(file).stem
    folder = "/".join(("tests", *package[:1]))
    names = ["_".join(("test", *parts)) for parts in ((name,), (*package[1:], name), package[1:])]
    if str(Path(test).parent) == folder and Path(test).stem in names:
        return 0
    if ".".join(("interp", *package, name)).removesuffix(".__init__") in _imported(root / test):
        return 1 if test.startswith(f"{folder}/") else 2
    return 3 if package and test.startswith(f"{folder}/") else FAR


def test_files(root: Path) -> list[str]:
    """All test files but the slow ones, relative to the root."""
    found = sorted(str(path.relative_to(root)) for path in (root / "tests").rglob("test_*.py"))
    return [test for test in found if not test.startswith(SLOW)]


@cache
def _imported(path: Path) -> frozenset[str]:
    """Modules that a file imports, by their full names; `from a import b` may mean the module `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)
