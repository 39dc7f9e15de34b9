"""Which entries of a code are active: one small function a kind of gate, all of the pre-activations alone.

Only entries with a positive pre-activation are ever chosen, so the value of a chosen entry is its pre-activation. The
score of an entry is f_j * sum_m |W_dec[j, m]|: what it adds to the reconstruction, whatever the scale of its decoder.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SAMPLE = 1 << 16
"""Scores that are looked at to guess a floor below the best ones."""


def batch_topk(pre: Float[Tensor, "rows latents"], norms: Float[Tensor, " latents"], n: int) -> Int[Tensor, " active"]:
    """Places of the `n` best positive scores of the whole batch (Bussmann et al. 2024), rising.

    Exactly n, or all positive ones where there are fewer. Of entries that tie for the last places the first ones are
    kept, in reading order (row, then latent).
    """
    places, scores = _candidates(pre, norms, n)
    return places[_best(scores, n)] if len(places) > n else places


def topk(pre: Float[Tensor, "rows latents"], norms: Float[Tensor, " latents"], k: int) -> Int[Tensor, " active"]:
    """Places of each row's `k` best positive scores (Gao et al. 2024), rising; fewer where fewer are positive."""
    n_latents = pre.shape[1]
    best = (pre * norms).topk(min(k, n_latents), dim=1, sorted=False).indices.sort(dim=1).values
    places = (best + torch.arange(len(pre), device=pre.device)[:, None] * n_latents).flatten()
    return places[pre.flatten()[places] > 0]


def above(pre: Float[Tensor, "rows latents"], thresholds: Float[Tensor, " latents"] | float) -> Int[Tensor, " active"]:
    """Places of all entries above their latent's threshold, which is 0 or more, rising."""
    if pre.dtype == torch.bfloat16:
        # Above zero, numbers of this format are ordered as the integers that their bits spell, which compare faster.
        limits = torch.as_tensor(thresholds, dtype=pre.dtype, device=pre.device).view(torch.int16)
        return (pre.view(torch.int16) > limits).flatten().nonzero().squeeze(1)
    return (pre > thresholds).flatten().nonzero().squeeze(1)


def _scores(pre: Tensor, norms: Tensor, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
    return pre.flatten()[places].float() * norms[places % pre.shape[1]]


def _candidates(pre: Tensor, norms: Tensor, n: int) -> tuple[Int[Tensor, " some"], Float[Tensor, " some"]]:
    """Places, rising, and scores of entries that hold the n best positive ones; all of them where there are fewer.

    A sample of the scores says which floor leaves a few more than n; looking for places above a floor costs a tenth of
    sorting all scores. Should the sample mislead, nothing is lost but time.
    """
    stride = pre.numel() // _SAMPLE
    if stride > 1:
        stride += 1 - stride % 2  # odd, so that over rows of even width the sample visits every latent
        sample = _scores(pre, norms, torch.arange(0, pre.numel(), stride, device=pre.device))
        rank = int(1.1 * n / stride + 4 * (n / stride) ** 0.5) + 8
        if rank < len(sample):
            floor = sample.kthvalue(len(sample) - rank + 1).values
            # A little lower, because the quotient is rounded; the scores themselves then decide.
            lower = floor * (1 - 4 * torch.finfo(pre.dtype).eps) / norms
            places = above(pre, lower.clamp(min=0).to(pre.dtype))
            scores = _scores(pre, norms, places)
            if int((scores > floor).sum()) >= n:
                return places, scores
    places = above(pre, 0.0)
    return places, _scores(pre, norms, places)


def _best(values: Float[Tensor, " some"], n: int) -> Bool[Tensor, " some"]:
    """Exactly `n` true entries, on the largest values; earlier entries first where values tie."""
    last = values.kthvalue(len(values) - n + 1).values
    keep = values > last
    tied = (values == last).nonzero().squeeze(1)
    keep[tied[: n - int(keep.sum())]] = True
    return keep
