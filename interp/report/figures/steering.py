"""Steering: dose-response."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from interp.report.figures.marks import PANELS, counted, hollow_sign, point
from interp.report.inputs import Study
from interp.report.numbers import metric
from interp.report.palette import BAND, INK, MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, Drawing, sheet
from interp.report.text import figure_text

STEERED = ("accuracy", "marker_density", "verification_rate")


def steering(study: Study) -> Drawing | None:
    """Dose-response of each outcome, a row of panels an outcome, a column an arm."""
    rows = study.effects.filter(
        pl.col("family") == "steering", pl.col("dose").is_not_null(), pl.col("estimate").is_finite()
    )
    outcomes = [o for o in STEERED if o in rows["outcome"]]
    arms = rows["arm"].drop_nulls().unique(maintain_order=True).to_list()[:PANELS]
    if not outcomes or not arms:
        return None
    width = min(13.0, 1.2 + 3.4 * len(arms))
    figure, panels = sheet(len(outcomes), len(arms), width, 0.5 + 2.3 * len(outcomes), sharex="col", sharey="row")
    for at, axes in enumerate(panels):
        outcome, arm = outcomes[at // len(arms)], arms[at % len(arms)]
        part = rows.filter(pl.col("outcome") == outcome, pl.col("arm") == arm)
        _doses(axes, part, metric(outcome).scale)
        if at < len(arms):
            axes.set_title(figure_text(arm, 30))
        if at >= len(arms) * (len(outcomes) - 1):
            axes.set_xlabel("Dose (× mean residual norm)")
        if at % len(arms) == 0:
            axes.set_ylabel(f"{metric(outcome).label}\n(change, {metric(outcome).change})")
    models = [m for m in MODEL_COLOURS if m in rows["model"]]
    signs: list[Line2D | Patch] = [
        Line2D([], [], color=MODEL_COLOURS[m], marker=MODEL_SHAPES[m], label=MODEL_LABELS[m]) for m in models
    ]
    hollow = [hollow_sign()] if not rows.select(counted().all()).item() else []
    figure.legend(
        handles=[*signs, Patch(color=BAND, label="controls, 95 %"), *hollow], loc="outside upper left", ncols=6
    )
    alt = f"Steering dose-response for {', '.join(arms)} on {', '.join(metric(o).label for o in outcomes)}."
    caption = (
        "Steering: change against the untouched run by dose, beside the same dose along control directions. Hollow "
        "points are beyond the coherence guard (perplexity, repetition) and never counted."
    )
    return Drawing("steering", figure, alt, caption)


def _doses(axes: Axes, rows: pl.DataFrame, scale: float) -> None:
    axes.axhline(0, color=INK, lw=0.9)
    banded = rows.drop_nulls(["control_low", "control_high"]).sort("dose")
    if banded.height:
        low, high = (scale * banded[c].to_numpy() for c in ("control_low", "control_high"))
        axes.fill_between(banded["dose"].to_numpy(), low, high, color=BAND, lw=0, alpha=0.8)
    for model in MODEL_COLOURS:
        mine = rows.filter(pl.col("model") == model).sort("dose")
        inside = mine.filter(counted())
        axes.plot(inside["dose"], scale * inside["estimate"], color=MODEL_COLOURS[model], lw=1.3, alpha=0.7)
        for row in mine.iter_rows(named=True):
            point(axes, row["dose"], row, MODEL_COLOURS[model], MODEL_SHAPES[model], scale)
