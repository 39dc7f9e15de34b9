"""Run a sample of mutants and all wiring faults, and say which survive; see `tests/mutants/__init__.py`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from mutants import forks
from mutants.choose import SOURCES, sample
from mutants.faults import equivalents, faults
from mutants.matching import matching
from mutants.report import as_json, by_file, killed_share, shown, survivors
from mutants.results import Results
from mutants.trials import Result, baseline, failing, judge

ROOT = Path(__file__).parents[2]
LEAST = 0.95
"""Share of the random mutants that must be killed, of those that are not equivalent."""


def main() -> int:
    """Exit code: 0 where enough random mutants and all wiring faults are killed, 1 where not, 2 where the tests fail
    on the unchanged source."""
    options = _options()
    results = Results(ROOT / "results" / "mutants.jsonl", fresh=options.fresh)
    drawn = sample(ROOT, options.only or SOURCES, options.sample, options.seed)
    wired = [] if options.no_wiring else [f for f in faults() if f.file.startswith(tuple(options.only or [""]))]
    forks.preload()
    with forks.copies(ROOT, options.workers) as trees:
        needed = [test for mutant in drawn for test in matching(ROOT, mutant.file, {})]
        needed += [test for fault in wired for test in fault.tests]
        seconds, broken = baseline(ROOT, needed, trees, results)
        for test, log in broken.items():
            print(f"{test} fails or selects nothing on the unchanged source: {failing(log) or log[-3000:]}")
        if broken and not options.keep_going:
            return 2
        random = [(mutant, matching(ROOT, mutant.file, seconds), "") for mutant in drawn]
        by_hand = [(fault.mutant(ROOT), fault.tests, fault.what) for fault in wired]
        tested = judge(ROOT, random + by_hand, seconds, trees, results, _say)
    return _report(tested[: len(random)], tested[len(random) :], options.list_survivors)


def _report(random: Sequence[Result], wired: Sequence[Result], to: Path | None) -> int:
    known = equivalents()
    alive, faulty = survivors(random, known), survivors(wired, ())
    share = killed_share(random, known)
    print(by_file([*random, *wired], known))
    for title, which in (("Random mutants that survive", alive), ("Wiring faults that survive", faulty)):
        print(f"\n{title}: {len(which)}", *map(shown, which), sep="\n")
    print(f"\nkilled: {share:.1%} of {len(random)} random mutants, {len(wired) - len(faulty)} of {len(wired)} faults")
    if to:
        to.write_text(json.dumps([as_json(one) for one in [*alive, *faulty]], indent=1))
    return int(share < LEAST or bool(faulty))


def _say(one: Result) -> None:
    m = one.mutant
    print(f"{one.outcome:9} {one.seconds:6.1f} s  {m.file} {m.function} {m.kind}  {one.by}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("make mutants ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--sample", type=int, default=200, help="how many random mutants")
    parser.add_argument("--only", nargs="+", metavar="PATH", help="files or folders of the source, instead of all")
    parser.add_argument("--workers", type=int, default=2, help="mutants tested side by side")
    parser.add_argument("--no-wiring", action="store_true", help="leave the wiring faults out")
    parser.add_argument("--keep-going", action="store_true", help="leave out tests that fail on the unchanged source")
    parser.add_argument("--fresh", action="store_true", help="run again what is in results/mutants.jsonl too")
    parser.add_argument("--list-survivors", type=Path, metavar="FILE", help="write the survivors as JSON")
    options = parser.parse_args()
    for path in options.only or ():
        if not (ROOT / path).exists():
            parser.error(f"--only {path}: no such file or folder in {ROOT.name}")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
