"""One colour a model, everywhere; and the look and the saving of figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito 2008: distinct under every common colour vision.
MODEL_COLOURS = {"base": "#6B7280", "distilled": "#D55E00", "zero_rl": "#0072B2", "control": "#009E73"}
MODEL_LABELS = {"base": "base", "distilled": "distilled", "zero_rl": "zero-RL", "control": "control"}
MODEL_SHAPES = {"base": "o", "distilled": "D", "zero_rl": "s", "control": "^"}
"""A marker shape per model, for print without colour."""
SITE_COLOURS = ("#332288", "#AA4499", "#B8860B", "#117733", "#444444", "#661100")
SITE_SHAPES = ("o", "s", "^", "D", "v", "P")
BAND = "#D3D7DE"
"""Controls, in every figure."""
BAND_EDGE = "#8A92A0"
INK = "#1F2430"
FAINT = "#E7E9EE"
REGION = "#E9F3EC"

_STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same bytes on every machine
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 10.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA1AD",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "interp",
    "svg.fonttype": "path",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its description and caption."""

    name: str
    figure: Figure
    alt: str
    caption: str
    wide: bool = True


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib in the report's look, undone at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change the bytes
        mpl.rcParams.update(_STYLE)
        yield


def sheet(rows: int, columns: int, width: float, height: float, **sharing: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `width` by `height` inches and its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **sharing)
    return figure, list(grid.flat)


def save(drawing: Drawing, folder: Path) -> None:
    """Write `name.svg` and `name.png` to `folder`, which is made, without a date: the same figure is the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    drawing.figure.draw_without_rendering()
    drawing.figure.set_layout_engine("none")  # laid out once, for both files
    drawing.figure.savefig(folder / f"{drawing.name}.svg", metadata={"Date": None, "Creator": None})
    drawing.figure.savefig(folder / f"{drawing.name}.png", dpi=160, metadata={"Software": None})


def model_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend above all panels, from the labels drawn in `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6, columnspacing=1.6)


def whiskers(value: float, low: float | None, high: float | None) -> tuple[Sequence[float], Sequence[float]] | None:
    """An interval as matplotlib wants it: distances below and above the value, never negative."""
    if low is None or high is None:
        return None
    return [max(0.0, value - low)], [max(0.0, high - value)]
