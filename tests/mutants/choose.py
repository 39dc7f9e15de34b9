"""All mutants of a file, and a seeded sample of those of many files."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mutants.operators import OPERATORS, Change, called
from mutants.source import Source

SOURCES = ("interp/crosscoder", "interp/features", "interp/causal", "interp/statistics.py", "interp/tasks")
"""What random mutants are taken from."""
UNSEEN = {"InterpError", "warn", "warning", "debug", "info", "setLevel", "filterwarnings", "simplefilter", "advance"}
UNSEEN |= {"ConfigDict", "TypeVar", "NewType"}
"""Calls whose arguments are messages, logging, progress or typing: nothing in them is mutated."""
_SKIPPED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    function: str
    """Qualified name of the function or class that holds it; "" at the top of the module."""
    kind: str
    before: str
    """The lines that change, without their indentation."""
    after: str
    nth: int
    """How many equal mutants of the same function stand above it."""
    text: str = field(repr=False)
    """The whole file with the change."""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.file, self.function, self.kind, self.before, self.after, str(self.nth)


def mutants(file: str, text: str) -> list[Mutant]:
    """Every mutant of a file; a few may not parse."""
    source, seen, found = Source(text), {}, []
    for function, node in _nodes(source.tree, ""):
        for change in (change for operator in OPERATORS for change in operator(source, node)):
            changed = source.replaced(change.start, change.end, change.by)
            key = (function, change.kind, *_lines(source, change, changed))
            seen[key] = seen.get(key, -1) + 1
            found.append(Mutant(file, *key, seen[key], changed))
    return found


def sample(root: Path, places: Iterable[str], n: int, seed: int) -> list[Mutant]:
    """`n` of all mutants of the files under `places`, each as likely as any other.

    Drawn by a hash of each mutant, so that a change of one line leaves the others' draws as they were.
    """
    texts = {file: (root / file).read_text() for file in files_of(root, places)}
    every = [mutant for file, text in texts.items() for mutant in mutants(file, text)]
    drawn = sorted(every, key=lambda m: hashlib.sha256(repr((seed, m.identity)).encode()).digest())
    valid = (mutant for mutant in drawn if _differs(texts[mutant.file], mutant.text))
    return sorted(islice(valid, n), key=lambda m: m.identity)


def files_of(root: Path, places: Iterable[str]) -> list[str]:
    """The Python files under some files or folders, relative to the root."""
    folders = [root / place for place in places]
    found = [path for folder in folders for path in (folder.rglob("*.py") if folder.is_dir() else [folder])]
    return sorted({str(path.relative_to(root)) for path in found})


def _nodes(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    """(function, node) of everything under a node that may be mutated."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _skipped(name, child):
                inner = function
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    inner = f"{function}.{child.name}".lstrip(".")
                yield inner, child
                yield from _nodes(child, inner)


def _skipped(name: str, child: ast.AST) -> bool:
    """Annotations, decorators, docstrings, messages, `zip`'s `strict` and what only the type checker reads."""
    return (
        name in ("annotation", "returns", "decorator_list")
        or isinstance(child, _SKIPPED)
        or (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
        or (isinstance(child, ast.Expr) and isinstance(child.value, ast.Call) and called(child.value) in UNSEEN)
        or (isinstance(child, ast.Call) and called(child) in UNSEEN)
        or (isinstance(child, ast.keyword) and child.arg == "strict")
        or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
        or (isinstance(child, ast.Assign) and _is_typing(child))
    )


def _is_typing(node: ast.Assign) -> bool:
    """`__all__` and aliases of types, such as `Rows = list[dict[str, Any]]`."""
    name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
    alias = isinstance(node.value, ast.Subscript) and name[:1].isupper() and not name.isupper()
    return alias or name == "__all__"


def _differs(text: str, changed: str) -> bool:
    """Whether a change parses and is one."""
    try:
        return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    except SyntaxError:
        return False


def _lines(source: Source, change: Change, changed: str) -> tuple[str, str]:
    """The lines of a change before and after it, without their indentation."""
    first, last = source.lines(change.start, change.end)
    old, new = source.text.split("\n"), changed.split("\n")
    below = len(old) - last
    return _stripped(old[first:last]), _stripped(new[first : len(new) - below])


def _stripped(lines: Iterable[str]) -> str:
    return "\n".join(line.strip() for line in lines)
