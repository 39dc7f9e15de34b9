"""Figures of the latents: how distillation reweights and rotates them, and what they follow."""

from __future__ import annotations

import numpy as np
import polars as pl

from interp.names import BEHAVIOURS, LATENT_KINDS
from interp.report.figures.marks import cloud
from interp.report.inputs import Study
from interp.report.palette import BAND_EDGE, Drawing, model_legend, sheet

KIND_COLOURS = dict(
    zip((*LATENT_KINDS, "unconfirmed"), ("#7C3AED", "#B45309", "#BE185D", "#0E7490", "#4B5563"), strict=True)
)
OTHER = "#B6BCC7"
FLOOR = 1e-5
"""Firing rates below are drawn at it: the axes are logarithmic."""


def cosines(study: Study) -> Drawing | None:
    """How far the models' decoders of one latent point apart."""
    values = study.latents["cosine_min"].drop_nulls().drop_nans().clip(-1, 1).to_numpy()
    if not values.size:
        return None
    figure, (axes,) = sheet(1, 1, 4.7, 3.7)
    axes.hist(values, bins=np.linspace(-1, 1, 41).tolist(), color=OTHER)
    axes.axvline(float(np.median(values)), color=BAND_EDGE, ls=":", lw=1.2)
    axes.set_xlim(min(-0.05, float(values.min())), 1.02)
    axes.set_xlabel("Smallest decoder cosine between two models")
    axes.set_ylabel("Latents")
    alt = f"Histogram of the smallest decoder cosine of each latent; the median is {np.median(values):.2f}."
    caption = "Near 1 the models hold the same direction, at most rescaled; near 0 it is rotated. Dotted: the median."
    return Drawing("cosines", figure, alt, caption, wide=False)


def reweighting(study: Study) -> Drawing | None:
    """Firing rate of each latent on the distilled model's own rollouts against the base's."""
    if not {"rate_base", "rate_distilled"} <= set(study.latents.columns):
        return None
    rows = study.latents.filter((pl.col("rate_base") > 0) | (pl.col("rate_distilled") > 0))
    if not rows.height:
        return None
    figure, (axes,) = sheet(1, 1, 4.7, 3.7)
    axes.plot([FLOOR, 1], [FLOOR, 1], color=BAND_EDGE, lw=1, ls=":")
    for kind, colour in ({"": OTHER} | KIND_COLOURS).items():
        mine = rows.filter(pl.col("kind").fill_null("") == kind)
        if mine.height:
            x, y = (mine[c].fill_null(0).clip(FLOOR, 1).to_numpy() for c in ("rate_base", "rate_distilled"))
            cloud(axes, x, y, colour, kind or "other", "o", rows.height)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Fires on base rollouts (share of tokens)")
    axes.set_ylabel("On distilled rollouts")
    model_legend(figure, axes, 2)
    alt = f"Firing rates of {rows.height} latents on distilled against base rollouts, both axes logarithmic."
    caption = (
        "Above the dotted line a latent fires more on the distilled model's rollouts than on the base's. The texts "
    )
    caption += "differ as well as the models. Rates below 1 in 100 000 are at the edge."
    return Drawing("reweighting", figure, alt, caption, wide=False)


def behaviours(study: Study) -> Drawing | None:
    """AUROC of each latent in the behaviour off markers, against its AUROC at markers."""
    rows = study.latents.filter(pl.col("auroc_marker").is_finite())
    shown = [b for b in BEHAVIOURS if rows[f"auroc_confirm_{b}"].is_finite().any()]
    if not shown:
        return None
    figure, panels = sheet(1, len(shown), 4.7 * len(shown), 3.7)
    for axes, b in zip(panels, shown, strict=True):
        axes.axhline(0.5, color=BAND_EDGE, lw=0.8)
        axes.axvline(0.5, color=BAND_EDGE, lw=0.8)
        confirmed = pl.col(f"confirmed_{b}").fill_null(False)
        for part, colour, label in ((~confirmed, OTHER, "not confirmed"), (confirmed, "#7C3AED", "confirmed")):
            mine = rows.filter(part).drop_nulls(f"auroc_confirm_{b}")
            if mine.height:
                x, y = mine["auroc_marker"].to_numpy(), mine[f"auroc_confirm_{b}"].to_numpy()
                cloud(axes, x, y, colour, label, "o", rows.height)
        axes.set_title(b.capitalize())
        axes.set_xlabel("AUROC at markers")
        axes.set_ylabel("AUROC in the behaviour, off markers")
    model_legend(figure, panels[0], 2)
    counts = ", ".join(f"{rows[f'confirmed_{b}'].sum()} for {b}" for b in shown)
    alt = f"AUROC of each latent for the behaviour against its AUROC for markers. Confirmed: {counts}."
    caption = "Up: follows the behaviour off the markers. Right: follows the words. 0.5 is chance."
    return Drawing("behaviours", figure, alt, caption, wide=len(shown) > 1)
