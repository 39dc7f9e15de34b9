"""Which entries of a code are active: one small function per kind of gate, of the pre-activations alone.

Only entries with a positive pre-activation are ever chosen, so the value of a chosen entry is its pre-activation. The
score of an entry is f_j * sum_m |W_dec[j, m]|: what it adds to the reconstruction, whatever the scale of its decoder.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SAMPLE = 1 << 16
"""Scores that are looked at to estimate a floor below the best ones."""
_MARGINS = (1.1, 2.0, 4.0)
"""Candidates over the number wanted, at which the floors aim one after the other."""


@runtime_checkable
class PreActivations(Protocol):
    """Pre-activations of a batch, computed or bounded; a place is an index into the flattened [rows, latents]."""

    @property
    def upper(self) -> Float[Tensor, "rows latents"]:
        """Upper bounds of the pre-activations, up to the rounding to this tensor's dtype."""
        ...

    def near(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """Approximate pre-activations, read from what has been computed."""
        ...

    def at(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """Exact pre-activations."""
        ...


def batch_topk(
    pre: PreActivations, norms: Float[Tensor, " latents"], n: int
) -> tuple[Int[Tensor, " active"], Float[Tensor, " active"]]:
    """Places of the `n` best positive scores of the whole batch (Bussmann et al. 2024), rising, and the
    pre-activations there.

    Exactly n, or all positive ones where there are fewer. Of entries that tie for the last places the first ones are
    kept, in reading order (row, then latent).
    """
    places, values, scores = _candidates(pre, norms, n)
    if len(places) <= n:
        return places, values
    best = _best(scores, n)
    return places[best], values[best]


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


def _candidates(pre: PreActivations, norms: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places, rising, of entries that include the n best positive scores, their pre-activations and their scores; all
    positive ones where there are fewer.

    A sample of the scores gives a floor that leaves a few more than n; looking for places above a floor costs a tenth
    of sorting all scores. Where the sample misleads a lower floor is tried, and in the end none: the result is exact in
    any case.
    """
    size, n_latents = pre.upper.numel(), pre.upper.shape[1]
    stride = size // SAMPLE
    if stride > 1:
        stride += 1 - stride % 2  # odd, so that over rows of even width the sample visits every latent
        looked_at = torch.arange(0, size, stride, device=norms.device)
        sample = pre.near(looked_at) * norms[looked_at % n_latents]
        for margin in _MARGINS:
            rank = int(margin * n / stride + 4 * (n / stride) ** 0.5) + 8
            if rank >= len(sample):
                break
            floor = sample.kthvalue(len(sample) - rank + 1).values.clamp(min=0)
            # A little lower, because the bound and the quotient are rounded; the scores themselves then decide.
            lower = floor * (1 - 2 * torch.finfo(pre.upper.dtype).eps) / norms
            places = above(pre.upper, lower.clamp(min=0).to(pre.upper.dtype))
            values = pre.at(places)
            scores = values * norms[places % n_latents]
            if int((scores > floor).sum()) >= n:
                return places, values, scores
    places = above(pre.upper, 0.0)
    values = pre.at(places)
    positive = values > 0
    places, values = places[positive], values[positive]
    return places, values, values * norms[places % n_latents]


def _best(values: Float[Tensor, " some"], n: int) -> Bool[Tensor, " some"]:
    """Exactly `n` true entries, on the largest values; earlier entries first where values tie."""
    last = values.kthvalue(len(values) - n + 1).values
    keep = values > last
    tied = (values == last).nonzero().squeeze(1)
    keep[tied[: n - int(keep.sum())]] = True
    return keep
