"""Swap readout: what a latent reads in one model alone. The code of a row is one for all models; with one model's
activation in every slot it is what that model's residual says by itself, on the same text."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch

from interp.features.attribution import Decision

SCHEMA = {
    "latent": pl.Int64,
    "model": pl.String,
    "fires_positive": pl.Float64,
    "fires_negative": pl.Float64,
    "mean_positive": pl.Float64,
    "mean_negative": pl.Float64,
}
"""Columns of `readout.parquet`, one row for each latent and model: how often it fires after the positive and after the
negative side of the contrast, and its mean activation there."""


@torch.no_grad()
def swap_readout(decision: Decision, latents: Sequence[int], names: Sequence[str]) -> pl.DataFrame:
    """The latents as each of the crosscoder's models reads them, with SCHEMA; `names` in the crosscoder's order.

    Raises:
        ValueError: the sides hold no activations of the crosscoder's models.
    """
    cc, chosen, found = decision.crosscoder, list(latents), {}
    for name in ("positive", "negative"):
        x = getattr(decision, name).x
        if x is None:
            raise ValueError("the sides hold no activations of the crosscoder's models; read them with `decide`")
        for slot, model in enumerate(names):
            alone = x[:, [slot] * len(names)].float().to(cc.mean.device)
            f = cc.encode(alone)[:, chosen]
            found[model, name] = (f > 0).double().mean(0).tolist(), f.double().mean(0).tolist()
    rows = [
        {
            "latent": latent,
            "model": model,
            "fires_positive": found[model, "positive"][0][i],
            "fires_negative": found[model, "negative"][0][i],
            "mean_positive": found[model, "positive"][1][i],
            "mean_negative": found[model, "negative"][1][i],
        }
        for i, latent in enumerate(chosen)
        for model in names
    ]
    return pl.DataFrame(rows, schema=SCHEMA)
