"""How well a crosscoder reconstructs, and how sparsely."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.crosscoder.data import check_rows, chunk_rows, finite_chunks
from interp.crosscoder.module import Crosscoder
from interp.errors import InterpError


class Evaluation(NamedTuple):
    """What `evaluate` measured, with the gate of inference."""

    n_rows: int
    """Rows measured."""
    fve: tuple[float, ...]
    """Per model, the fraction of variance explained: 1 - squared error / squared distance from the rows' mean, each
    summed over all rows. 1 is perfect, 0 no better than the mean, below 0 worse; NaN for a model that never varies."""
    l0: float
    """Mean number of active latents a row."""
    dead_share: float
    """Share of the latents that were active on none of these rows; it depends on how many rows there are."""
    firing: Float64[Tensor, " latents"]
    """Share of the rows on which each latent was active."""


@torch.no_grad()
def evaluate(crosscoder: Crosscoder, rows: Float[Tensor, "rows models d_model"]) -> Evaluation:
    """Measure on `rows` (input units, any float type, read in pieces; sums in fp64).

    It does not say how much of the models' behaviour the reconstruction keeps: for that splice it in.

    Raises:
        InterpError: no rows, rows of another shape, or non-finite ones.
    """
    check_rows(rows, crosscoder.config)
    if len(rows) == 0:
        raise InterpError("rows: there are none to evaluate on; give at least one")
    n_models, d_model, n_latents = crosscoder.config.n_models, crosscoder.config.d_model, crosscoder.config.n_latents
    device = crosscoder.mean.device
    error, squares = torch.zeros(2, n_models, dtype=torch.float64, device=device)
    total = torch.zeros(n_models, d_model, dtype=torch.float64, device=device)
    fired = torch.zeros(n_latents, dtype=torch.long, device=device)
    for _, chunk in finite_chunks(rows, chunk_rows(max(n_latents, n_models * d_model))):
        x = chunk.to(device)
        f = crosscoder.encode(x)
        error += (crosscoder.decode(f) - x).double().square().sum((0, 2))
        moved = x.double() - crosscoder.mean  # near the mean already, so that nothing cancels below
        squares += moved.square().sum((0, 2))
        total += moved.sum(0)
        fired += (f > 0).sum(0)
    variance = squares - total.square().sum(1) / len(rows)
    fve = torch.where(variance > 0, 1 - error / variance, torch.nan)
    firing = fired.double() / len(rows)
    return Evaluation(len(rows), tuple(fve.tolist()), float(firing.sum()), float((fired == 0).double().mean()), firing)
