"""What is run: every needed test file on the unchanged source, then every mutant's tests until one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mutants.choose import Mutant
from mutants.forks import Steps, changed, run
from mutants.results import Results, key, source_texts

LIMIT, TIMES = 60.0, 5.0
"""A test file may take this many seconds, and this many times its seconds on the unchanged source beside them."""
LONGEST = 900.0
"""Seconds allowed on the unchanged source."""
KILLED, TIMED_OUT, SURVIVED = "killed", "timed out", "survived"


@dataclass(frozen=True)
class Result:
    """A mutant, and what its tests said."""

    mutant: Mutant
    outcome: str
    by: str
    """The first failing test, "" for a survivor."""
    seconds: float
    what: str = ""
    """Of a wiring fault: the number that would be wrong."""


def baseline(
    root: Path, tests: Sequence[str], trees: list[Path], results: Results
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each test file (or file with `-k`) on the unchanged source, and the logs of those that fail there or
    select no test."""
    package, broken = source_texts(root), {}
    keys = {test: key(root, package, [test]) for test in dict.fromkeys(tests)}
    todo = [test for test in keys if results.get(keys[test]) is None]
    print(f"{len(keys)} test files on the unchanged source, {len(keys) - len(todo)} of them known", flush=True)

    def trial(test: str, tree: Path) -> Steps:
        ended = yield test, LONGEST
        if not ended.passed or (ended.no_tests and " " in test):
            broken[test] = ended.log
        else:
            results.put(keys[test], test=test, seconds=round(ended.seconds, 2))

    run([partial(trial, test) for test in todo], trees)
    known = {test: results.get(k) for test, k in keys.items()}
    return {test: record["seconds"] for test, record in known.items() if record}, broken


def judge(
    root: Path,
    mutants: Sequence[tuple[Mutant, list[str], str]],
    seconds: dict[str, float],
    trees: list[Path],
    results: Results,
    say: Callable[[Result], None],
) -> list[Result]:
    """Test every (mutant, test files, what would be wrong); `say` is called with each result that is new."""
    found: dict[int, Result] = {}

    def trial(i: int, keys: dict[str, str], tree: Path) -> Steps:
        mutant, _, what = mutants[i]
        outcome, by, took = SURVIVED, "", 0.0
        with changed(tree, mutant.file, mutant.text):
            for test, k in keys.items():
                ended = yield test, LIMIT + TIMES * seconds[test]
                took += ended.seconds
                if not ended.passed:
                    outcome, by = (TIMED_OUT if ended.timed_out else KILLED), failing(ended.log) or test
                results.put(k, mutant=mutant.identity, outcome=outcome, by=by, seconds=round(ended.seconds, 2))
                if not ended.passed:
                    break
        found[i] = Result(mutant, outcome, by, took, what)
        say(found[i])

    waiting = []
    for i, (mutant, tests, what) in enumerate(mutants):
        keys = {test: key(root, [mutant.file, mutant.text], [test]) for test in tests if test in seconds}
        known = {test: record for test, k in keys.items() if (record := results.get(k))}
        killed = next((record for record in known.values() if record["outcome"] != SURVIVED), None)
        if killed or len(known) == len(keys):
            outcome, by = (killed["outcome"], killed["by"]) if killed else (SURVIVED, "")
            found[i] = Result(mutant, outcome, by, sum(record["seconds"] for record in known.values()), what)
        else:
            waiting.append(partial(trial, i, {test: k for test, k in keys.items() if test not in known}))
    run(waiting, trees)
    return [found[i] for i in range(len(mutants))]


def failing(log: str) -> str:
    """The first failing test that pytest's summary names."""
    lines = (line.split(" ", 2) for line in log.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    return next((words[1] for words in lines if len(words) > 1), "")
