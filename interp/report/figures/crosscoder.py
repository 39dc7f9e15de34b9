"""Figures of the crosscoder: its training, and how its latents lean to one model."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from interp.report.figures.marks import cloud
from interp.report.inputs import Study
from interp.report.latents import NU_ERROR_MAX, NU_RECON_MAX, most_specific
from interp.report.palette import (
    BAND_EDGE,
    INK,
    MODEL_COLOURS,
    MODEL_LABELS,
    MODEL_SHAPES,
    REGION,
    Drawing,
    model_legend,
    sheet,
)


def curves(study: Study) -> Drawing | None:
    """FVE of each model, L0 and dead share over the crosscoder's training."""
    rows = study.metrics
    if "step" not in rows.columns or not rows.height:
        return None
    present = [m for m in study.models if f"fve_{m}" in rows.columns]
    others = [name for name in ("l0", "dead") if name in rows.columns]
    panels = (["fve"] if present else []) + others
    if not panels:
        return None
    figure, all_axes = sheet(1, len(panels), 3.2 * len(panels), 2.9)
    titles = {"fve": "FVE (1 is perfect)", "l0": "L0 (latents active per token)", "dead": "Dead latents (share)"}
    for axes, name in zip(all_axes, panels, strict=True):
        if name == "fve":
            for m in present:
                axes.plot(rows["step"], rows[f"fve_{m}"], color=MODEL_COLOURS[m], label=MODEL_LABELS[m])
            axes.legend(loc="lower right")
        else:
            axes.plot(rows["step"], rows[name], color=INK)
            axes.set_ylim(bottom=0)
        axes.set_title(titles[name])
        axes.set_xlabel("Step")
    last = rows.row(-1, named=True)
    listed = ", ".join(f"{MODEL_LABELS[m]} {last[f'fve_{m}']:.3f}" for m in present if last[f"fve_{m}"] is not None)
    alt = f"Crosscoder training over steps. Fraction of variance explained at the last logged step: {listed}."
    return Drawing("crosscoder", figure, alt, "Training of the crosscoder, on training batches.")


def specificity(study: Study) -> Drawing | None:
    """How far each latent's decoder leans to one model."""
    columns = {m: f"specificity_{m}" for m in study.models if f"specificity_{m}" in study.latents.columns}
    values = {m: study.latents[c].drop_nulls().drop_nans().to_numpy() for m, c in columns.items()}
    values = {m: v for m, v in values.items() if v.size}
    if not values:
        return None
    figure, (axes,) = sheet(1, 1, 4.7, 3.7)
    for m, v in values.items():
        axes.hist(
            v,
            bins=np.linspace(0, 1, 26).tolist(),
            histtype="step",
            lw=1.7,
            color=MODEL_COLOURS[m],
            label=MODEL_LABELS[m],
        )
    axes.axvline(1 / len(values), color=BAND_EDGE, ls=":", lw=1.2)
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"Specificity (1/{len(values)}, dotted: shared; 1: this model's alone)")
    axes.set_ylabel("Latents")
    model_legend(figure, axes, len(values))
    medians = ", ".join(f"{MODEL_LABELS[m]} {np.median(v):.2f}" for m, v in values.items())
    alt = f"Histogram of decoder specificity per model. Medians: {medians}."
    return Drawing("specificity", figure, alt, "Specificity ‖W_dec[j, m]‖ / Σ of every latent, by model.", wide=False)


def scaling(study: Study) -> Drawing | None:
    """Latent Scaling: which latents are really one model's, and which only look so by their norms."""
    rows = study.latents.filter(pl.col("nu_error_max").is_finite() & pl.col("nu_recon_max").is_finite())
    if not rows.height:
        return None
    top = 1.5
    figure, (axes,) = sheet(1, 1, 4.7, 3.7)
    axes.add_patch(Rectangle((-1, -1), 1 + NU_ERROR_MAX, 1 + NU_RECON_MAX, color=REGION, zorder=0, lw=0))
    axes.plot([NU_ERROR_MAX, NU_ERROR_MAX, -1], [-1, NU_RECON_MAX, NU_RECON_MAX], color="#7FB08F", lw=1)
    owner = most_specific(rows, study.models)
    for m in study.models:
        mine = rows.filter(owner == m)
        if mine.height:
            x, y = (mine[c].clip(-0.2, top).to_numpy() for c in ("nu_error_max", "nu_recon_max"))
            cloud(axes, x, y, MODEL_COLOURS[m], MODEL_LABELS[m], MODEL_SHAPES[m], rows.height)
    axes.set_xlim(-0.25, top + 0.05)
    axes.set_ylim(-0.25, top + 0.05)
    axes.set_xlabel("ν of the error (0: the others have none of it)")
    axes.set_ylabel("ν of the reconstruction")
    model_legend(figure, axes, 4)
    inside = rows.filter((pl.col("nu_error_max") < NU_ERROR_MAX) & (pl.col("nu_recon_max") < NU_RECON_MAX)).height
    clipped = rows.filter((pl.col("nu_error_max") > top) | (pl.col("nu_recon_max") > top)).height
    alt = f"Latent Scaling of {rows.height} latents; {inside} lie in the region of the claim."
    caption = (
        f"Latent Scaling, each latent for its most specific model (colour) against the strongest other. Green: the "
        f"claim “specific”; {inside} of {rows.height} are inside, {clipped} beyond the axes are drawn at the edge."
    )
    return Drawing("latent_scaling", figure, alt, caption, wide=False)
