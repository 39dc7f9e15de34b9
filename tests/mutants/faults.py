"""The wiring faults: changes written by hand, each of which makes one printed number plausible and wrong."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from mutants.choose import Mutant

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """One wiring fault."""

    name: str
    file: str
    find: str
    """Text that occurs once in the file."""
    replace: str
    tests: list[str]
    """Test files, each with `-k` and an expression where only some of it is needed; one of them must fail."""
    what: str
    """The number that would be wrong, and how."""

    def mutant(self, root: Path) -> Mutant:
        text = (root / self.file).read_text()
        if text.count(self.find) != 1:
            raise ValueError(f"{self.name}: {self.find!r} occurs {text.count(self.find)} times in {self.file}")
        return Mutant(self.file, self.name, "wiring", self.find, self.replace, 0, text.replace(self.find, self.replace))


def faults() -> list[Fault]:
    """All wiring faults, by file."""
    files = sorted((HERE / "wiring").glob("*.toml"))
    return [Fault(**entry) for file in files for entry in tomllib.loads(file.read_text())["fault"]]


def equivalents() -> dict[tuple[str, str, str, str], str]:
    """(file, function, lines before, lines after) of mutants that change nothing observable, and why."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text()).get("equivalent", [])
    return {(e["file"], e["function"], e["before"], e["after"]): e["why"] for e in entries}
