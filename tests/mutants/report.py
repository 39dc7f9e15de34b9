"""What the mutation tester prints: killed and survived by file, then every survivor as a difference of lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from mutants.choose import Mutant
from mutants.trials import SURVIVED, Result

Equivalents = Collection[tuple[str, str, str, str]]


def is_equivalent(mutant: Mutant, equivalents: Equivalents) -> bool:
    return (mutant.file, mutant.function, mutant.before, mutant.after) in equivalents


def difference(mutant: Mutant) -> str:
    """`-` and `+` lines."""
    old, new = (text.split("\n") for text in (mutant.before, mutant.after))
    return "\n".join([f"    - {line}" for line in old] + [f"    + {line}" for line in new])


def by_file(tested: Sequence[Result], equivalents: Equivalents) -> str:
    """A table: one row per file, one column per outcome."""
    counts: dict[str, Counter[str]] = {}
    for one in tested:
        equivalent = one.outcome == SURVIVED and is_equivalent(one.mutant, equivalents)
        counts.setdefault(one.mutant.file, Counter())["equivalent" if equivalent else one.outcome] += 1
    columns = ("killed", "timed out", "survived", "equivalent")
    head = f"{'file':50}" + "".join(f"{column:>12}" for column in columns)
    total = sum(counts.values(), Counter())
    rows = [(file, counts[file]) for file in sorted(counts)] + [("all", total)]
    return "\n".join(
        [head, *(f"{file:50}" + "".join(f"{count[c] or '':>12}" for c in columns) for file, count in rows)]
    )


def survivors(tested: Sequence[Result], equivalents: Equivalents) -> list[Result]:
    """Survivors that are not known to be equivalent."""
    return [t for t in tested if t.outcome == SURVIVED and not is_equivalent(t.mutant, equivalents)]


def killed_share(tested: Sequence[Result], equivalents: Equivalents) -> float:
    """Share killed (a timeout included) of those that are not equivalent; 1 where there are none."""
    counted = [t for t in tested if t.outcome != SURVIVED or not is_equivalent(t.mutant, equivalents)]
    return 1 - len(survivors(counted, equivalents)) / len(counted) if counted else 1.0


def shown(one: Result) -> str:
    """A survivor: where it is, what would be wrong, and the difference."""
    where = f"{one.mutant.file} {one.mutant.function} ({one.mutant.kind})"
    return "\n".join([where, *([f"    {one.what}"] if one.what else []), difference(one.mutant)])


def as_json(one: Result) -> dict[str, Any]:
    m = one.mutant
    entry = {"file": m.file, "function": m.function, "kind": m.kind, "before": m.before, "after": m.after}
    return entry | ({"what": one.what} if one.what else {})
