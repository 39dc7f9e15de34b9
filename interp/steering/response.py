"""What doses do, as pure functions of the runs: effects beside both kinds of controls, slopes, usable range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from interp.causal.checks import check_arm, failures
from interp.causal.effects import control_columns, effects
from interp.causal.runs import UNTOUCHED, Runs
from interp.names import OUTCOMES
from interp.statistics import Bootstrap, sign_p
from interp.steering.arms import COVARIANCE, dose_name
from interp.traces.measure import Outcomes

STEP = 0.1
"""Dose that a slope is given for."""
Coherence = Mapping[str, Mapping[str, float]]
"""Model to arm to the perplexity of its text, times that of the untouched text."""


def failed(runs: Runs, coherence: Coherence, guard: float) -> dict[str, dict[str, list[str]]]:
    """Model to arm to what went wrong: incoherent text, fewer finished, another length, repetition, no edit."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, about in runs.arms.items():
        for model in about["models"]:
            checks = check_arm(runs, name, model=model, coherence=coherence[model], guard=guard)
            found.setdefault(model, {})[name] = failures(checks)
    return found


def all_effects(
    runs: Runs,
    same_norm: int,
    coherence: Coherence,
    wrong: Mapping[str, Mapping[str, Sequence[str]]],
    guard: float,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the effects' table: every arm on every model beside the first `same_norm` draws, then each arm with more
    draws beside those, in the family `..., covariance`."""
    split = _split(runs, same_norm)
    rows = []
    for one, suffix in split:
        for model in dict.fromkeys(m for about in one.arms.values() for m in about["models"]):
            mine = {n: {**a, "models": [model]} for n, a in one.arms.items() if model in a["models"]}
            mine = {n: {**a, "family": a["family"] + suffix} for n, a in mine.items()}
            rows += effects(
                Runs(one.table.filter(pl.col("model") == model), mine),
                resamples=resamples,
                seed=seed,
                coherence=coherence[model],
                guard=guard,
                failed=wrong[model],
            )
    return rows


def _split(runs: Runs, same_norm: int) -> list[tuple[Runs, str]]:
    """(runs beside one kind of controls, suffix of their family)."""
    draw = pl.col("draw")
    found = [(Runs(runs.table.filter(draw <= same_norm), runs.arms), "")]
    more = Runs(runs.table.filter((draw == 0) | (draw > same_norm)), runs.arms)
    with_draws = {
        name: {**about, "models": list(about["models"])[:1], "control_name": COVARIANCE}
        for name, about in runs.arms.items()
        if more.draws(name, about["models"][0])
    }
    return [*found, *([(Runs(more.table, with_draws), ", covariance")] if with_draws else [])]


def usable(doses: Sequence[float], wrong: Mapping[float, Sequence[str]]) -> tuple[float, float]:
    """The band of tried doses around 0 in which nothing went wrong, both ends included: outwards from 0 up to the last
    dose before the first that failed. (0, 0) where both neighbours of 0 failed."""
    ends = []
    for sign in (-1, 1):
        end = 0.0
        for dose in sorted((d for d in doses if d * sign > 0), key=abs):
            if wrong[dose]:
                break
            end = dose
        ends.append(end)
    return ends[0], ends[1]


def symmetric(band: tuple[float, float]) -> tuple[float, float]:
    """The largest band inside this one that reaches as far to either side of 0. Any large dose does harm: over a band
    with more doses on one side, a slope would be mostly that."""
    end = min(-band[0], band[1])
    return -end, end


def slopes(
    runs: Runs,
    where: str,
    model: str,
    band: tuple[float, float],
    same_norm: int,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per outcome and kind of controls: the change per dose of STEP, by least squares through the untouched run
    over the doses of a band. One number a curve, so that one p is asked of it and not one a dose; the controls' are
    their own slopes over the same doses. No rows where the band holds no dose."""
    arms = {
        about["dose"]: name
        for name, about in runs.arms.items()
        if name == dose_name(about["dose"] or 0, where) and band[0] <= about["dose"] <= band[1]
    }
    first = next((runs.arms[name] for name in arms.values()), None)
    if first is None:
        return []
    doses, has_controls = np.array(list(arms)), first["models"][0] == model
    draws = runs.draws(next(iter(arms.values())), model) if has_controls else []
    numbers = runs.numbers(next(iter(arms.values())), 0, model)
    bootstrap = Bootstrap(len(numbers), resamples, seed)

    def of(draw: int, among: Sequence[int]) -> list[Outcomes]:
        return [
            runs.outcomes(UNTOUCHED, 0, model, numbers=among),
            *(runs.outcomes(name, draw, model, numbers=among) for name in arms.values()),
        ]

    whole = of(0, numbers)
    among = runs.numbers(next(iter(arms.values())), draws[0], model) if draws else []
    beside, here = [of(draw, among) for draw in draws], of(0, among) if draws else []
    rows = []
    for outcome in OUTCOMES:
        estimate = _slope(doses, np.array([one.value(outcome) for one in whole])[:, None])[0]
        resampled = _slope(doses, np.array([_resampled(one, outcome, bootstrap) for one in whole]))
        resampled = resampled[np.isfinite(resampled)]
        known = bool(np.isfinite(estimate)) and len(resampled) > 0
        number = bootstrap.interval(float(estimate), resampled).as_dict() if known else {"note": "no such event"}
        labels = {
            "model": model,
            "decoding": "sampled",
            "site": first["site"],
            "layer": first["layer"],
            "arm": f"{where}, {min(doses):+g} to {max(doses):+g}",
            "outcome": outcome,
            "n_problems": len(numbers),
            "coherent": True,
            **number,
        }
        values = [float(_slope(doses, np.array([o.value(outcome) for o in one])[:, None])[0]) for one in beside]
        own = float(_slope(doses, np.array([o.value(outcome) for o in here])[:, None])[0]) if here else None
        own = own if known and own is not None and np.isfinite(own) else None
        p = sign_p(resampled) if known else 1.0
        kinds = [
            ("slope", values[:same_norm], first["control_name"]),
            ("slope, covariance", values[same_norm:], COVARIANCE),
        ]
        for family, group, name in kinds:
            if group or family == "slope":
                rows.append(labels | {"family": family} | (control_columns(own, group, name, p) if group else {}))
    return rows


def _slope(doses: Float[np.ndarray, " doses"], values: Float[np.ndarray, "untouched_and_doses n"]) -> np.ndarray:
    """Change per STEP of dose, through the first row: Σ d (v_d - v_0) / Σ d²."""
    return STEP * (doses @ (values[1:] - values[:1])) / (doses**2).sum()


def _resampled(outcomes: Outcomes, outcome: str, bootstrap: Bootstrap) -> Float[np.ndarray, " resamples"]:
    top, bottom = outcomes.parts[outcome]
    with np.errstate(invalid="ignore", divide="ignore"):
        return bootstrap.sums(top) / bootstrap.sums(bottom)
