"""Results by what they depend on, one JSON line each, appended as they come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass
class Results:
    """A file of results; what is in it is not run again."""

    path: Path
    fresh: bool = False
    """Take nothing from earlier runs."""

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, dict[str, Any]] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() and not self.fresh else []
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue
            self._known[record["key"]] = record

    def get(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def put(self, key: str, **record: Any) -> None:
        self._known[key] = {"key": key, **record}
        with self.path.open("a") as file:
            file.write(json.dumps(self._known[key]) + "\n")


def key(root: Path, changed: Iterable[str], tests: Iterable[str]) -> str:
    """The key of a result: the changed text, and the tests with the helpers beside them. Other modules' texts are
    not in it: after a change of those, `--fresh` runs everything again."""
    digest = hashlib.sha256()
    for text in (*changed, *(_with_helpers(root, test) for test in tests)):
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:24]


@cache
def _with_helpers(root: Path, test: str) -> str:
    """A test file's text, after those of the files in its folder and in `tests` that hold no tests."""
    path = root / test.split()[0]
    helpers = sorted({p for folder in (path.parent, root / "tests") for p in folder.glob("*.py")})
    texts = [p.read_text() for p in helpers if not p.name.startswith("test_")]
    return "\0".join([test, *texts, path.read_text()])


def source_texts(root: Path) -> list[str]:
    """The texts of the whole package, in a fixed order."""
    return [path.read_text() for path in sorted((root / "interp").rglob("*.py"))]
