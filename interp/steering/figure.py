"""One figure a model: the dose on the x axis, one panel an outcome, the usable range as a band."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from interp.names import OUTCOMES
from interp.report.figures.marks import band, counted, hollow_sign, point
from interp.report.numbers import metric
from interp.report.palette import BAND, BAND_EDGE, INK, MODEL_LABELS, REGION, SITE_COLOURS, SITE_SHAPES, Drawing, sheet

COLUMNS = 4
"""Panels side by side."""


@dataclass(frozen=True)
class Curve:
    """One place that was steered."""

    where: str
    usable: tuple[float, float]
    """The doses between which nothing went wrong."""


def doses_figure(effects: pl.DataFrame, model: str, curves: Sequence[Curve]) -> Drawing:
    """Change of every outcome by dose in one model's sampled text; the figure is called `doses_MODEL`."""
    rows = effects.filter(pl.col("model") == model, pl.col("decoding") == "sampled", pl.col("dose").is_not_null())
    figure, panels = sheet(-(-len(OUTCOMES) // COLUMNS), COLUMNS, 3.1 * COLUMNS, 5.9)
    for axes, outcome in zip(panels, OUTCOMES, strict=False):
        _panel(axes, rows.filter(pl.col("outcome") == outcome), curves, metric(outcome).scale)
        axes.set_title(metric(outcome).label)
        axes.set_xlabel("Dose (× mean residual norm)")
        axes.set_ylabel(f"Change ({metric(outcome).change})")
    handles: list[Artist] = [
        Line2D([], [], color=SITE_COLOURS[i], marker=SITE_SHAPES[i], label=curve.where)
        for i, curve in enumerate(curves)
    ]
    if rows["control_low"].is_not_null().any():
        handles += [
            Patch(color=BAND, label="random directions, 95 %"),
            Patch(facecolor="none", edgecolor=BAND_EDGE, label="the same, of the residual's covariance"),
        ]
    handles.append(Patch(color=REGION, label="usable range" + (f", {curves[0].where}" if len(curves) > 1 else "")))
    handles += [] if rows.select(counted().all()).item() else [hollow_sign()]
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    said = "; ".join(f"{c.where} {c.usable[0]:+g} to {c.usable[1]:+g}" for c in curves).replace("-", "−")
    label = MODEL_LABELS.get(model, model)
    alt = f"Change of {len(OUTCOMES)} outcomes by dose in the {label} model. Usable range: {said}."
    caption = (
        f"{label}: change against the untouched run by dose, with 95 % intervals over problems. Usable range ({said}): "
        "the doses around 0 whose text stays coherent, ends, keeps its length and does not repeat itself. Hollow "
        "points failed one of these checks. Places are drawn side by side."
    )
    return Drawing(f"doses_{model}", figure, alt, caption)


def _panel(axes: Axes, rows: pl.DataFrame, curves: Sequence[Curve], scale: float) -> None:
    axes.axhline(0, color=INK, lw=0.9)
    axes.axvspan(*curves[0].usable, color=REGION, lw=0, zorder=0)
    half = _half_width(rows["dose"].unique().to_list()) / max(1, len(curves))
    for i, curve in enumerate(curves):
        mine = rows.filter(pl.col("arm").str.ends_with(f" {curve.where}"), pl.col("estimate").is_finite()).sort("dose")
        shift = (2 * i - len(curves) + 1) * half
        main, spread = (mine.filter(pl.col("family").str.ends_with("covariance") == other) for other in (False, True))
        for row in main.iter_rows(named=True):
            band(axes, row["dose"] + shift, half, row, scale)
        for row in spread.drop_nulls(["control_low", "control_high"]).iter_rows(named=True):
            low, high = scale * row["control_low"], scale * row["control_high"]
            at = row["dose"] + shift
            axes.bar(at, high - low, bottom=low, width=2 * half, fill=False, edgecolor=BAND_EDGE, lw=0.8, zorder=0.6)
        inside = main.filter(counted())
        steps = sorted([(0.0, 0.0), *zip(inside["dose"] + shift, scale * inside["estimate"], strict=True)])
        axes.plot(*zip(*steps, strict=True), color=SITE_COLOURS[i], lw=1.3, alpha=0.7)
        for row in main.iter_rows(named=True):
            point(axes, row["dose"] + shift, row, SITE_COLOURS[i], SITE_SHAPES[i], scale)


def _half_width(doses: Sequence[float]) -> float:
    """Of the controls' bars: two fifths of the smallest distance between two doses, 0 being one."""
    tried = sorted({0.0, *doses})
    return 0.4 * min((b - a for a, b in itertools.pairwise(tried)), default=1.0)
