"""Marks that several figures share: clouds of latents, points with intervals, bands of controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from interp.report.palette import BAND, INK

PANELS = 6
"""Arms drawn in one figure; the table has all."""
MANY = 2000
"""Above this, points become pixels inside the SVG, which would otherwise be megabytes."""


def cloud(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str, shape: str, total: int) -> None:
    """One group of latents, of `total` in the panel."""
    size = 16 if total <= MANY else 5
    axes.scatter(x, y, s=size, color=colour, marker=shape, alpha=0.6, lw=0, label=label, rasterized=total > MANY)


def counted() -> pl.Expr:
    """Rows whose text is coherent and whose arm passed its checks."""
    return pl.col("coherent").fill_null(True)


def hollow_sign() -> Line2D:
    """The legend's entry for arms that failed a check."""
    return Line2D([], [], color=INK, marker="o", mfc="white", ls=":", label="incoherent, or failed a check")


def band(axes: Axes, x: float, half: float, row: dict[str, Any], scale: float) -> None:
    """The controls of one effect, as an upright bar."""
    if row["control_low"] is not None and row["control_high"] is not None:
        low, high = scale * row["control_low"], scale * row["control_high"]
        axes.bar(x, high - low, bottom=low, width=2 * half, color=BAND, lw=0, zorder=0.5)


def point(axes: Axes, x: float, row: dict[str, Any], colour: str, shape: str, scale: float) -> None:
    """An effect and its interval, upright; hollow and dotted where a check failed."""
    inside = row["coherent"] is not False
    if row["low"] is not None and row["high"] is not None:
        ends = [scale * row["low"], scale * row["high"]]
        axes.plot([x, x], ends, color=colour, lw=1.6, ls="-" if inside else ":")
    axes.plot([x], [scale * row["estimate"]], shape, ms=5, color=colour, mfc=colour if inside else "white")
