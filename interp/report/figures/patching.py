"""Patching by layer and site."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from interp.report.figures.marks import PANELS, band, counted, point
from interp.report.inputs import Study
from interp.report.palette import BAND, BAND_EDGE, INK, MODEL_LABELS, SITE_COLOURS, SITE_SHAPES, Drawing, sheet
from interp.report.text import figure_text


def patching(study: Study) -> Drawing | None:
    """The restored share by layer and site, a panel an arm (noising, denoising) and model."""
    rows = restored(study, pl.col("head").is_null())
    groups = rows.select("arm", "model").unique(maintain_order=True).rows()[:PANELS]
    if not groups:
        return None
    sites = rows["site"].unique(maintain_order=True).to_list()
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    figure, panels = sheet(lines, columns, 4.8 * columns, 0.5 + 3.0 * lines, sharey=True)
    for axes, (arm, model) in zip(panels, groups, strict=False):
        part = rows.filter(pl.col("arm") == arm, pl.col("model") == model)
        for at, site in enumerate(sites):
            shift = 0.14 * (at - (len(sites) - 1) / 2)
            _site(axes, part.filter(pl.col("site") == site).sort("layer"), at, shift)
        _layer_axes(axes, figure_text(f"{arm}, {MODEL_LABELS.get(model, model)}"), sorted(part["layer"].unique()))
    for axes in panels[::columns]:
        axes.set_ylabel("Restored (0 none, 1 all)")
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    signs: list[Line2D | Patch] = [
        Line2D([], [], color=_colour(at), marker=_shape(at), label=figure_text(site)) for at, site in enumerate(sites)
    ]
    figure.legend(handles=[*signs, Patch(color=BAND, label="controls, 95 %")], loc="outside upper left", ncols=6)
    strongest = rows.sort("estimate", descending=True).row(0, named=True)
    alt = (
        f"Patching by layer for {', '.join(f'{a} ({MODEL_LABELS.get(m, m)})' for a, m in groups)}. Strongest: "
        f"{strongest['arm']} at {strongest['site']}, layer {strongest['layer']}: {strongest['estimate']:.2f}."
    )
    caption = (
        "Share of the clean-corrupt difference that one patched place carries: 0 none, 1 all. Noising asks whether a "
        "place is needed, denoising whether it suffices; they are not mirror images."
    )
    return Drawing("patching", figure, alt, caption)


def restored(study: Study, which: pl.Expr) -> pl.DataFrame:
    """The rows of patching whose share is known, of a layer, as far as `which` holds."""
    share = (pl.col("family") == "patching") & (pl.col("outcome") == "restored") & pl.col("estimate").is_finite()
    rows = study.effects.filter(share, pl.col("layer").is_not_null(), which)
    return rows.with_columns(pl.col("site").fill_null("all"), pl.col("arm", "model").fill_null("unnamed"))


def _colour(at: int) -> str:
    return SITE_COLOURS[at % len(SITE_COLOURS)]


def _shape(at: int) -> str:
    return SITE_SHAPES[at % len(SITE_SHAPES)]


def _site(axes: Axes, rows: pl.DataFrame, at: int, shift: float) -> None:
    x = [layer + shift for layer in rows["layer"]]
    inside = rows.filter(counted())
    axes.plot(inside["layer"] + shift, inside["estimate"], color=_colour(at), lw=1.2, alpha=0.7)
    for place, row in zip(x, rows.iter_rows(named=True), strict=True):
        band(axes, place, 0.05, row, 1.0)
        point(axes, place, row, _colour(at), _shape(at), 1.0)


def _layer_axes(axes: Axes, title: str, layers: Sequence[int]) -> None:
    axes.axhline(0, color=INK, lw=0.9)
    axes.axhline(1, color=BAND_EDGE, lw=0.9, ls=":")
    axes.set_title(title)
    axes.set_xlabel("Layer")
    axes.set_xlim(layers[0] - 0.6, layers[-1] + 0.6)
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.grid(visible=False, axis="x")
