"""Two independent counters of self-reflection and of verification, and how far they agree.

One counts sentences by rule (the lexicon, and structure). The other counts by construction where the task shows the
work in equations, or is a language model that reads the text (`judge`). A count is never shown without the agreement
with it: counters that look for keywords alone have reached an F1 of .54 to .64 (Ward et al. 2025, arXiv 2507.12638).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from sklearn.metrics import cohen_kappa_score

from interp.names import BEHAVIOURS
from interp.statistics import Bootstrap, Interval, Refused
from interp.traces.lexicon import Lexicon, Span
from interp.traces.rollouts import per_problem
from interp.traces.segment import by_construction, by_sentences

Counts = dict[str, int]
"""Behaviour to how often it occurs in one rollout."""
Cells = Float[np.ndarray, " tables"]


def counts_by_rule(text: str, lexicon: Lexicon, *, recomputed: bool) -> Counts:
    """Sentences of each behaviour. `recomputed` also takes steps for verification that are worked again (`redone`):
    leave it off against the counter by construction, which finds the same and would agree with itself."""
    return _tally(by_sentences(text, lexicon, recomputed=recomputed))


def counts_by_construction(text: str) -> Counts:
    """Recomputed equations, and the text between an equation and its recomputation, whatever the words."""
    return _tally(by_construction(text))


def _tally(spans: Sequence[Span]) -> Counts:
    found = Counter(span.label for span in spans)
    return {behaviour: found[behaviour] for behaviour in BEHAVIOURS}


def kappa(both: Cells, first: Cells, second: Cells, neither: Cells) -> Cells:
    """Cohen's kappa (1960) of many tables at once, from how often both counters, one alone, or neither found the
    behaviour: 1 is full agreement, 0 that of chance; nan where both counters are constant and equal."""
    total = both + first + second + neither
    seen = (both + neither) / total
    chance = ((both + first) * (both + second) + (neither + first) * (neither + second)) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (seen - chance) / (1 - chance)


def agreement(
    problems: Sequence[str], one: Sequence[int], two: Sequence[int], names: tuple[str, str] = ("first", "second")
) -> Interval | Refused:
    """Cohen's kappa of whether a rollout shows the behaviour at all, with its 95 % interval over problems. Resamples
    in which both counters are constant and equal are left out. Problems and counts: one value per rollout.

    Refused where a counter is constant: kappa is then 0 or undefined however often the two agree.
    """
    present = np.asarray(one) > 0, np.asarray(two) > 0
    for name, found in zip(names, present, strict=True):
        if found.all() or not found.any():
            return Refused(f"the {name} counter says {'yes' if found.any() else 'no'} to every rollout")
    a, b = present
    rollouts = pl.DataFrame({"problem": list(problems), "model": "any"})
    cells = per_problem(rollouts, {"both": a & b, "first": a & ~b, "second": ~a & b, "neither": ~a & ~b})["any"]
    bootstrap = Bootstrap(len(cells["both"]))
    draws = kappa(**{name: bootstrap.sums(cell) for name, cell in cells.items()})
    return bootstrap.interval(float(cohen_kappa_score(a, b)), draws[np.isfinite(draws)])


def compare_counters(
    rollouts: pl.DataFrame, one: Sequence[Counts | None], two: Sequence[Counts | None], names: tuple[str, str]
) -> list[dict[str, Any]]:
    """One row per model and behaviour: for each counter the mean count per rollout and the share of rollouts with any,
    then kappa with its interval, or why it is refused. Rollouts that a counter could not read (None) are left out of
    the row; `n` and `left_out` count both."""
    rows = []
    for model in rollouts["model"].unique(maintain_order=True):
        mine = [i for i, name in enumerate(rollouts["model"]) if name == model]
        read = [(rollouts["problem"][i], a, b) for i in mine if (a := one[i]) is not None and (b := two[i]) is not None]
        for behaviour in BEHAVIOURS:
            first, second = [a[behaviour] for _, a, _ in read], [b[behaviour] for _, _, b in read]
            row = {"model": model, "behaviour": behaviour, "n": len(read), "left_out": len(mine) - len(read)}
            for name, counts in zip(names, (first, second), strict=True):
                row[f"mean_{name}"] = float(np.mean(counts)) if read else None
                row[f"share_{name}"] = float(np.mean(np.asarray(counts) > 0)) if read else None
            found = (
                agreement([p for p, _, _ in read], first, second, names)
                if read
                else Refused("no rollout was read by both")
            )
            rows.append(row | {f"kappa_{key}": value for key, value in found.as_dict().items()})
    return rows
