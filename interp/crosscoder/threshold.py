"""The gate of inference, from rows that training never saw."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.crosscoder.data import chunk_rows
from interp.crosscoder.module import Crosscoder


@torch.no_grad()
def calibrate(
    crosscoder: Crosscoder, rows: Float[Tensor, "rows models d_model"], places: Int[Tensor, " places"]
) -> Float[Tensor, ""]:
    """The threshold that leaves k scores a row above it, on average over the rows at `places`.

    It lies half-way between the last score that is kept and the first that is not. It is 0 where fewer than k scores a
    row are positive. Warns where L0 misses k by more than 2 %: too few positive scores, or many that are equal.
    """
    wanted = crosscoder.config.k * len(places)
    best = crosscoder.mean.new_empty(0)
    for piece in places.split(chunk_rows(crosscoder.config.n_latents)):
        x = rows[piece.to(rows.device)].to(best.device)
        score = crosscoder.pre_activations(crosscoder.normalise(x)).relu() * crosscoder.decoder_norms()
        # A score below the best ones so far cannot enter them.
        floor = best.min() if len(best) > wanted else 0.0
        best = torch.cat([best, score[score > floor]])
        if len(best) > wanted + 1:
            best = best.topk(wanted + 1, sorted=False).values
    threshold = best.new_zeros(())
    if len(best) > wanted:
        threshold = best.topk(2, largest=False).values.mean()
    l0 = int((best > threshold).sum()) / len(places)
    if abs(l0 / crosscoder.config.k - 1) > 0.02:
        warnings.warn(f"L0 on held-out rows is {l0:.2f}, not k={crosscoder.config.k} within 2 %", stacklevel=2)
    return threshold
