"""Whether each model notices an error: what it does after a wrong step and after the untouched one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from interp.report.inputs import Study
from interp.report.numbers import METRICS, Estimate, Metric, Shown, real, show, span

MEASURES = ("checks_wrong", "checks_right", "repaired", "correct_wrong", "correct_right", "variation")
"""Columns of the table."""


@dataclass(frozen=True)
class NoticedRow:
    """One model of the table."""

    name: str
    n: int | None
    """Texts with an injected error."""
    cells: list[Shown]


@dataclass(frozen=True)
class Noticed:
    """The table with its lead."""

    columns: Sequence[Metric]
    rows: list[NoticedRow]
    texts: str
    """Number of texts of each model, or its range; nothing where it is not known."""


def estimates(study: Study) -> dict[str, dict[str, Estimate]]:
    """Model to measure to estimate, for every model with a row, in the fixed order."""
    found: dict[str, dict[str, Estimate]] = {}
    for model in study.models:
        rows = {row["measure"]: row for row in _of(study, model).iter_rows(named=True)}
        if rows:
            found[model] = {name: _estimate(rows.get(name)) for name in MEASURES}
    return found


def read_noticed(study: Study) -> Noticed | None:
    """The table, or None where nothing was measured."""
    found = estimates(study)
    if not found:
        return None
    rows = [
        NoticedRow(model, _of(study, model)["n"].max(), [show(e, METRICS[name]) for name, e in measured.items()])  # type: ignore[arg-type]
        for model, measured in found.items()
    ]
    sizes = [row.n for row in rows if row.n is not None]
    return Noticed([METRICS[name] for name in MEASURES], rows, span(sizes) if sizes else "")


def _of(study: Study, model: str) -> pl.DataFrame:
    return study.noticed.filter(pl.col("model") == model, pl.col("measure").is_in(MEASURES))


def _estimate(row: dict | None) -> Estimate:
    value, low, high = (real(row[key]) if row else None for key in ("estimate", "low", "high"))
    return Estimate(value, low, high, "" if value is not None else "not measured")
