"""The gate of inference, from rows that training never saw."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.module import Crosscoder


@torch.no_grad()
def calibrate(crosscoder: Crosscoder, chunks: Iterable[Tensor], n_rows: int) -> Float[Tensor, ""]:
    """The threshold that leaves k scores a row above it, on average over the chunks' `n_rows` rows.

    A chunk is a tensor [any number, models, d_model] in input units.

    It lies half-way between the last score that is kept and the first that is not. It is 0 where fewer than k scores a
    row are positive. Warns where L0 misses k by more than 2 %: too few positive scores, or many that are equal.
    """
    k = crosscoder.config.k or 0
    wanted = k * n_rows
    best = crosscoder.mean.new_empty(0)
    for chunk in chunks:
        x = crosscoder.normalise(chunk.to(best.device))
        score = crosscoder.pre_activations(x).relu() * crosscoder.decoder_norms()
        # A score below the best ones so far cannot enter them.
        floor = best.min() if len(best) > wanted else 0.0
        best = torch.cat([best, score[score > floor]])
        if len(best) > wanted + 1:
            best = best.topk(wanted + 1, sorted=False).values
    threshold = best.new_zeros(())
    if len(best) > wanted:
        threshold = best.topk(2, largest=False).values.mean()
    l0 = int((best > threshold).sum()) / n_rows
    if abs(l0 / k - 1) > 0.02:
        warnings.warn(f"L0 on held-out rows is {l0:.2f}, not k={k} within 2 %", stacklevel=2)
    return threshold
