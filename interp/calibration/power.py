"""What the instrument would have said with fewer problems: both verdicts read again from a part of a study's runs."""

from __future__ import annotations

import json
from collections.abc import Iterable

import polars as pl

from interp.causal.circuit_verdict import circuit_runs, is_located, text_runs, through
from interp.causal.runs import Runs, read_runs
from interp.causal.verdict import conclude
from interp.study import Study

SIZES = (64, 128, 256)
"""Numbers of problems below a whole study's."""


def part_of(runs: Runs, n: int, problems: int) -> Runs:
    """The runs of `n` of the problems: the first ones of each half, as words are found and latents chosen on the first
    half and tested on the second, and controls are run on the first problems of either."""
    half, number = problems // 2, pl.col("number")
    return Runs(runs.table.filter((number % half) < n // 2), runs.arms)


def verdicts(study: Study, sizes: Iterable[int] = SIZES) -> dict[int, dict[str, str]]:
    """Number of problems to the `verdict` by text and that through the `circuit` of a finished study. Which latents are
    located is that of the whole study."""
    folder, causal = study.folder("causal"), study.config.causal
    written = json.loads((folder / "verdict.json").read_text())
    located = is_located(json.loads((study.folder("features") / "circuit.json").read_text()))
    runs = read_runs(folder / "runs")
    found = {}
    for n in sizes:
        part = part_of(runs, n, written["problems"])
        text, circuit = (
            conclude(
                some,
                bound=causal.bound,
                resamples=causal.resamples,
                seed=study.config.seed,
                coherence=written["perplexity"],
                guard=causal.coherence,
                found=[word["word"] for word in written["unlisted"]],
                coverage=written["coverage"],
                mends_nothing=written["mends_nothing"],
            )
            for some in (text_runs(part), circuit_runs(part))
        )
        found[n] = {"verdict": text.verdict, "circuit": through(circuit, located=located)[0]}
    return found
