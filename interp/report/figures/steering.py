"""Steering: dose-response."""

from __future__ import annotations

import itertools

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from interp.names import EDITED
from interp.report.effects import edited
from interp.report.figures.marks import band, counted, hollow_sign, point
from interp.report.inputs import Study
from interp.report.numbers import metric
from interp.report.palette import BAND, INK, MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, Drawing, sheet

STEERED = ("accuracy", "marker_density", "verification_rate")
COLOUR, SHAPE = MODEL_COLOURS[EDITED], MODEL_SHAPES[EDITED]


def steering(study: Study) -> Drawing | None:
    """Dose-response: one panel an outcome, with every dose that was given."""
    steered = pl.col("family") == "steering", pl.col("dose").is_not_null(), pl.col("estimate").is_finite()
    rows = edited(study.effects).filter(*steered)
    outcomes = [o for o in STEERED if o in rows["outcome"]]
    if not outcomes:
        return None
    figure, panels = sheet(1, len(outcomes), 3.4 * len(outcomes), 3.2)
    for axes, outcome in zip(panels, outcomes, strict=True):
        _doses(axes, rows.filter(pl.col("outcome") == outcome), metric(outcome).scale)
        axes.set_title(metric(outcome).label)
        axes.set_xlabel("Dose (× mean residual norm)")
        axes.set_ylabel(f"Change ({metric(outcome).change})")
    sign = Line2D([], [], color=COLOUR, marker=SHAPE, label=MODEL_LABELS[EDITED])
    hollow = [hollow_sign()] if not rows.select(counted().all()).item() else []
    figure.legend(handles=[sign, Patch(color=BAND, label="controls, 95 %"), *hollow], loc="outside upper left", ncols=6)
    doses = ", ".join(f"{dose:g}" for dose in sorted(rows["dose"].unique()))
    alt = f"Steering by doses {doses}: change of {', '.join(metric(o).label for o in outcomes)}."
    caption = (
        "Steering along the behaviour's direction: change against the untouched run by dose, with the band of random "
        "directions at the same dose. Hollow points are incoherent: the untouched model finds their text improbable."
    )
    return Drawing("steering", figure, alt, caption)


def _doses(axes: Axes, rows: pl.DataFrame, scale: float) -> None:
    axes.axhline(0, color=INK, lw=0.9)
    banded = rows.drop_nulls(["control_low", "control_high"]).sort("dose")
    for row in banded.iter_rows(named=True):
        band(axes, row["dose"], _half_width(rows), row, scale)
    inside = rows.filter(counted()).sort("dose")
    axes.plot(inside["dose"], scale * inside["estimate"], color=COLOUR, lw=1.3, alpha=0.7)
    for row in rows.sort("dose").iter_rows(named=True):
        point(axes, row["dose"], row, COLOUR, SHAPE, scale)


def _half_width(rows: pl.DataFrame) -> float:
    """Of the controls' bars: a fifth of the smallest distance between two doses, or of the dose where it is alone."""
    doses = sorted(rows["dose"].unique())
    return min((b - a for a, b in itertools.pairwise(doses)), default=abs(doses[0]) or 1.0) / 5
