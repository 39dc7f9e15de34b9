"""The one table that says what a direction does to style, function, accuracy and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from interp.names import EDITED
from interp.report.effects import control_of, effect_of
from interp.report.numbers import ABSENT, metric, number, p_text, show

COLUMNS = {
    "style": "marker_density",
    "function": "verification_rate",
    "redone steps": "redone",
    "accuracy": "accuracy",
    "length": "length",
}
"""Heading to the outcome that measures it."""


def markdown(ablation: pl.DataFrame, doses: pl.DataFrame | None, usable: Mapping[str, Sequence[float]]) -> str:
    """The table: one row per arm of the ablation, and the edited model's doses at the ends of its usable ranges.

    A cell is the untouched value, the change with its 95 % interval, the 95 % band of random directions of the same
    norm, and p after Holm's correction where there is one.
    """
    frames = [ablation]
    if doses is not None:
        ends = [(where, dose) for where, band in usable.items() for dose in band if dose]
        names = [f"add {dose:+g} {where}" for where, dose in ends]
        frames.append(doses.filter(pl.col("arm").is_in(names), pl.col("model") == EDITED))
    kept = ~pl.col("family").str.ends_with("covariance") & (pl.col("decoding") == "sampled")
    rows = pl.concat(frames).filter(kept)
    units = [f"{heading} ({metric(outcome).label}, {metric(outcome).unit})" for heading, outcome in COLUMNS.items()]
    lines = [_line(["arm", "model", *units, "note"]), _line(["---"] * (len(COLUMNS) + 3))]
    for (arm, model), group in rows.group_by("arm", "model", maintain_order=True):
        by = {row["outcome"]: row for row in group.iter_rows(named=True)}
        note = "; ".join(dict.fromkeys(row["note"] for row in by.values() if row["coherent"] is False and row["note"]))
        lines.append(_line([str(arm), str(model), *(_cell(by[o]) for o in COLUMNS.values()), note]))
    about = (
        "Each cell: the untouched value, the change [95 % interval over problems], (95 % band of random directions of "
        "the same norm), p after Holm's correction. What has a note failed a check and is no evidence."
    )
    return "\n".join([*lines, "", about, ""])


def _cell(row: Mapping[str, Any]) -> str:
    kind = metric(row["outcome"])
    change, band = show(effect_of(dict(row)), kind, signed=True), control_of(dict(row))
    before = number(None if row["untouched"] is None else kind.scale * row["untouched"], kind.digits)
    if change.value == ABSENT:
        return f"{before}, {change.refused}"
    words = [f"{before}, {change.value} {change.interval}"]
    if band.low is not None and band.high is not None:
        low, high = (number(kind.scale * end, kind.digits, signed=True) for end in (band.low, band.high))
        words.append(f"({low} to {high})")
    return " ".join(words) + (f", p {p_text(row['p_holm'])}" if row["p_holm"] is not None else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
