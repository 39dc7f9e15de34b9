"""The table of effects, a pure function of the runs: every arm against the untouched run, beside its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from interp.causal.runs import UNTOUCHED, Runs
from interp.causal.setting import GREEDY, SAMPLED
from interp.names import OUTCOMES
from interp.statistics import Bootstrap, Interval, Refused, bootstraps, can_pass, control_p, holm, sign_p
from interp.traces.measure import Outcomes

TABLES = {"style": "text", "function": "text", "both": "text"}
"""Families that stand in one table, over whose arms p is adjusted; every other family is a table of its own."""
SCHEMA = {
    "family": pl.String,
    "arm": pl.String,
    "model": pl.String,
    "decoding": pl.String,
    "site": pl.String,
    "layer": pl.Int64,
    "head": pl.Int64,
    "dose": pl.Float64,
    "outcome": pl.String,
    "untouched": pl.Float64,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "control_mean": pl.Float64,
    "control_low": pl.Float64,
    "control_high": pl.Float64,
    "control_name": pl.String,
    "n_controls": pl.Int64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "n_problems": pl.Int64,
    "fired": pl.Int64,
    "coherent": pl.Boolean,
    "note": pl.String,
}


def control_columns(effect: float | None, controls: Sequence[float], name: str, own_p: float = 0.0) -> dict[str, Any]:
    """The columns of the control draws: mean, 2.5 and 97.5 percentiles, number, p. Draws without a value are left out;
    an effect that is refused (None) has no p.

    p is the larger of two: against the draws, and that of the effect's own sampling error (`own_p`), without which a
    single changed problem would be significant beside controls that change none.
    """
    draws = np.array([value for value in controls if np.isfinite(value)])
    if not len(draws):
        return {"control_name": name, "n_controls": 0}
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "control_mean": float(draws.mean()),
        "control_low": float(low),
        "control_high": float(high),
        "control_name": name,
        "n_controls": len(draws),
        "p": None if effect is None else max(own_p, control_p(effect, draws.tolist())),
    }


def effects(
    runs: Runs,
    *,
    resamples: int = 10000,
    seed: int = 0,
    coherence: Mapping[str, float] | None = None,
    guard: float = 1.5,
    failed: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """One row per arm, model, decoding and outcome.

    `coherent` is False where the text of an arm is less probable than `guard` allows or a check of the arm failed; such
    a row is drawn hollow and has no p. `note` names what failed.
    """
    bootstrap = bootstraps(resamples, seed)
    rows = []
    for name, about in runs.arms.items():
        ratio = (coherence or {}).get(name)
        problems = list((failed or {}).get(name, ()))
        if ratio is not None and not about["forced"] and ratio >= guard and not problems:
            problems = [f"perplexity x{ratio:.2f}"]
        for model in about["models"]:
            for decoding in (SAMPLED, GREEDY):
                if runs.has(name, 0, model, decoding):
                    rows += _rows(runs, name, about, model, decoding, problems, bootstrap)
    return rows


def _rows(
    runs: Runs,
    name: str,
    about: Mapping[str, Any],
    model: str,
    decoding: str,
    problems: Sequence[str],
    resampled: Callable[[int], Bootstrap],
) -> list[dict[str, Any]]:
    numbers = runs.rows(name, 0, model, decoding)["number"].to_list()
    edited = runs.outcomes(name, 0, model, decoding)
    untouched = runs.outcomes(UNTOUCHED, 0, model, decoding, numbers)
    n = len(numbers)
    bootstrap = resampled(n)
    draws = runs.draws(name, model) if model == about["models"][0] and decoding == SAMPLED else []
    controls, among = [], None
    if draws:
        among = runs.numbers(name, draws[0], model)
        before = runs.outcomes(UNTOUCHED, 0, model, numbers=among)
        controls = [(runs.outcomes(name, draw, model), before) for draw in draws]
    labels = {
        "family": about["family"],
        "arm": name,
        "model": model,
        "decoding": decoding,
        "site": about["site"],
        "layer": about["layer"],
        "dose": about["dose"],
        "n_problems": n,
        "fired": int(runs.rows(name, 0, model, decoding)["fired"].sum()),
        "coherent": not problems,
    }
    rows = []
    for outcome in OUTCOMES:
        change = edited.change_from(untouched, outcome, bootstrap)
        row = {**labels, "outcome": outcome, "untouched": _finite(untouched.value(outcome)), **number(change)}
        if controls:
            row |= _beside(edited, untouched, numbers, among or [], controls, outcome, change, about, bootstrap)
        elif about["control_name"]:
            row["control_name"] = about["control_name"]
        notes = [row.get("note"), *problems, about["note"] if draws else ""]
        row["note"] = "; ".join(note for note in notes if note)
        if problems:
            row["p"] = None
        rows.append(row)
    return rows


def _beside(
    edited: Outcomes,
    untouched: Outcomes,
    numbers: Sequence[int],
    among: Sequence[int],
    controls: Sequence[tuple[Outcomes, Outcomes]],
    outcome: str,
    change: Interval | Refused,
    about: Mapping[str, Any],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """The controls' columns. p compares the effect on the controls' own problems, on which the two are exchangeable."""
    place = {number: i for i, number in enumerate(numbers)}
    here = np.array([place[n] for n in among])
    same, before = edited.at(here), untouched.at(here)
    effect = same.value(outcome) - before.value(outcome)
    values = [after.value(outcome) - b.value(outcome) for after, b in controls]
    resampled = edited.change_draws(untouched, outcome, bootstrap)
    usable = isinstance(change, Interval) and np.isfinite(effect) and resampled is not None
    own = sign_p(resampled) if resampled is not None else 1.0
    return control_columns(float(effect) if usable else None, values, about["control_name"], own)


def number(value: Interval | Refused) -> dict[str, Any]:
    """An interval's columns, or why there is none."""
    return {"note": value.refused} if isinstance(value, Refused) else value.as_dict()


def table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The table of effects. p is adjusted by Holm over all arms of one table, for each outcome. Arms
    with so few draws that no p of theirs could pass have none, and do not count: those with the fewest first."""
    frame = pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)
    if not len(frame):
        return frame
    frame = frame.with_row_index("order").with_columns(pl.col("family").replace(TABLES).alias("table"))
    adjusted = [_adjusted(group) for _, group in frame.group_by("table", "outcome", maintain_order=True)]
    return pl.concat(adjusted).sort("order").drop("order", "table")


def _adjusted(group: pl.DataFrame) -> pl.DataFrame:
    """One table's rows of one outcome."""
    ps, draws = group["p"].to_list(), group["n_controls"].to_list()
    asked = [i for i, p in enumerate(ps) if p is not None]
    while asked and not can_pass(fewest := min(draws[i] for i in asked), len(asked)):
        asked = [i for i in asked if draws[i] != fewest]
    ps = [p if i in asked else None for i, p in enumerate(ps)]
    return group.with_columns(pl.Series("p", ps, dtype=pl.Float64), pl.Series("p_holm", holm(ps), dtype=pl.Float64))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
