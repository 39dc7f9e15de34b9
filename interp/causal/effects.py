"""Rows of the table of effects: an edited run against the untouched one, with its matched controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from interp.names import OUTCOMES
from interp.statistics import Bootstrap, Interval, Refused, control_p, holm
from interp.traces.measure import Outcomes

SCHEMA = {
    "family": pl.String,
    "arm": pl.String,
    "model": pl.String,
    "site": pl.String,
    "layer": pl.Int64,
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
    "coherent": pl.Boolean,
    "note": pl.String,
}


def control_columns(effect: float | None, controls: Sequence[float], name: str) -> dict[str, Any]:
    """The columns of the control draws: mean, 2.5 and 97.5 percentiles, number, p. Draws without a value are left out;
    an effect that is refused (None) has no p."""
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
        "p": None if effect is None else control_p(effect, draws.tolist()),
    }


def effect_rows(
    labels: dict[str, Any],
    edited: Outcomes,
    untouched: Outcomes,
    controls: Sequence[Outcomes],
    control_name: str,
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """One row per outcome. Controls may be of fewer problems, the first ones, and are compared with the untouched
    run on those."""
    rows = []
    for outcome in OUTCOMES:
        change = edited.change_from(untouched, outcome, bootstrap)
        draws = [c.value(outcome) - untouched.head(len(c)).value(outcome) for c in controls]
        rows.append(
            {
                "outcome": outcome,
                "untouched": _finite(untouched.value(outcome)),
                "n_problems": len(edited),
                "coherent": True,
                "note": "",
                **number(change),
                **control_columns(change.estimate if isinstance(change, Interval) else None, draws, control_name),
                **labels,
            }
        )
    return rows


def number(value: Interval | Refused) -> dict[str, Any]:
    """An interval's columns, or why there is none."""
    return {"note": value.refused} if isinstance(value, Refused) else value.as_dict()


def table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The table of effects; p is adjusted by Holm within each family and outcome."""
    frame = pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)
    adjusted = [
        group.with_columns(pl.Series("p_holm", holm(group["p"].to_list()), dtype=pl.Float64))
        for _, group in frame.with_row_index("order").group_by("family", "outcome", maintain_order=True)
    ]
    return pl.concat(adjusted).sort("order").drop("order") if adjusted else frame


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
