"""Patching by layer and head."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from interp.report.effects import apart, control_of, effect_of
from interp.report.figures.marks import PANELS
from interp.report.figures.patching import restored
from interp.report.inputs import Study
from interp.report.palette import INK, MODEL_COLOURS, MODEL_LABELS, Drawing, sheet
from interp.report.text import figure_text

PRINTED = 100
"""Cells of a panel up to which each is labelled with its number."""
_DIVERGING = LinearSegmentedColormap.from_list(
    "restored", [MODEL_COLOURS["zero_rl"], "#FFFFFF", MODEL_COLOURS["distilled"]]
)


def heads(study: Study) -> Drawing | None:
    """The restored share by layer and head, a panel an arm (noising, denoising) and model."""
    rows = restored(study, pl.col("head").is_not_null())
    groups = rows.select("arm", "model").unique(maintain_order=True).rows()[:PANELS]
    if not groups:
        return None
    layers, numbers = sorted(rows["layer"].unique()), sorted(rows["head"].unique())
    most = max(0.1, float(np.abs(rows["estimate"].to_numpy()).max()))
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    height = 1.2 + min(6.0, 0.45 * len(layers))
    figure, panels = sheet(lines, columns, 4.8 * columns, lines * height, sharey=True)
    for axes, (arm, model) in zip(panels, groups, strict=False):
        part = rows.filter(pl.col("arm") == arm, pl.col("model") == model)
        _panel(axes, part, layers, numbers, most)
        axes.set_title(figure_text(f"{arm}, {MODEL_LABELS.get(model, model)}"))
    for axes in panels[::columns]:
        axes.set_ylabel("Layer")
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    shown = panels[0].images[0]
    figure.colorbar(shown, ax=panels, label="Restored (0 none, 1 all)", fraction=0.04)
    strongest = rows.sort("estimate", descending=True).row(0, named=True)
    alt = (
        f"Patching by head for {', '.join(f'{a} ({MODEL_LABELS.get(m, m)})' for a, m in groups)}. Strongest: "
        f"{strongest['arm']} of head {strongest['head']}, layer {strongest['layer']}: {strongest['estimate']:.2f}."
    )
    caption = (
        "Share of the clean-corrupt difference that one head's output carries. Framed: its interval and the controls' "
        "band do not meet."
    )
    return Drawing("heads", figure, alt, caption)


def _panel(axes: Axes, rows: pl.DataFrame, layers: list[int], numbers: list[int], most: float) -> None:
    shares = np.full((len(layers), len(numbers)), np.nan)
    for row in rows.iter_rows(named=True):
        y, x = layers.index(row["layer"]), numbers.index(row["head"])
        shares[y, x] = row["estimate"]
        if shares.size <= PRINTED:
            axes.text(x, y, f"{row['estimate']:.2f}".replace("-", "−"), ha="center", va="center", fontsize=8)
        if apart(effect_of(row), control_of(row)):
            axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor=INK, lw=1.2))
    axes.imshow(shares, cmap=_DIVERGING, vmin=-most, vmax=most, aspect="auto", origin="lower")
    axes.grid(visible=False)
    axes.set_xlabel("Head")
    for ticks, labels in ((axes.set_xticks, numbers), (axes.set_yticks, layers)):
        step = -(-len(labels) // 16)
        ticks(range(0, len(labels), step), [str(label) for label in labels[::step]])
