"""How well a crosscoder reconstructs, and how sparsely."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.crosscoder.module import Crosscoder
from interp.crosscoder.rows import RowSource, as_source, chunk_rows, chunks
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


def evaluate(crosscoder: Crosscoder, rows: Tensor | RowSource) -> Evaluation:
    """Measure on `rows` (input units, any float type, read in pieces; sums in fp64).

    It does not say how much of the models' behaviour the reconstruction keeps: for that splice it in.

    Raises:
        InterpError: no rows, rows of another shape, or non-finite ones.
    """
    source = as_source(rows, crosscoder.config)
    size = chunk_rows(max(crosscoder.config.n_latents, crosscoder.config.n_models * crosscoder.config.d_model))
    return evaluate_chunks(crosscoder, chunks(source, torch.arange(len(source)), size))


@torch.no_grad()
def evaluate_chunks(crosscoder: Crosscoder, pieces: Iterable[Tensor]) -> Evaluation:
    """`evaluate` on rows that come in pieces [any number, models, d_model].

    Raises:
        InterpError: no rows, or non-finite ones.
    """
    n_models, d_model, n_latents = crosscoder.config.n_models, crosscoder.config.d_model, crosscoder.config.n_latents
    device = crosscoder.mean.device
    error, squares = torch.zeros(2, n_models, dtype=torch.float64, device=device)
    total = torch.zeros(n_models, d_model, dtype=torch.float64, device=device)
    fired = torch.zeros(n_latents, dtype=torch.long, device=device)
    n = n_bad = 0
    for chunk in pieces:
        x = chunk.to(device)
        n_bad += int((~x.isfinite()).flatten(1).any(1).sum())
        f = crosscoder.encode(x)
        error += (crosscoder.decode(f) - x).double().square().sum((0, 2))
        moved = x.double() - crosscoder.mean  # near the mean already, so that nothing cancels below
        squares += moved.square().sum((0, 2))
        total += moved.sum(0)
        fired += (f > 0).sum(0)
        n += len(x)
    if n == 0:
        raise InterpError("rows: there are none to evaluate on; give at least one")
    if n_bad:
        raise InterpError(f"rows: {n_bad} of {n} hold NaN or infinite values; drop them before measuring")
    variance = squares - total.square().sum(1) / n
    fve = torch.where(variance > 0, 1 - error / variance, torch.nan)
    firing = fired.double() / n
    return Evaluation(n, tuple(fve.tolist()), float(firing.sum()), float((fired == 0).double().mean()), firing)


def firing_histogram(firing: Float64[Tensor, " latents"], per_decade: int = 2) -> dict[str, list[float]]:
    """How many latents fire how often: `edges` in log10 of the share of rows, `counts` between them, and `dead`, the
    number of those that never fired (as a list of one)."""
    alive = firing[firing > 0].log10()
    lowest = float(alive.min().floor()) if len(alive) else -1.0
    edges = torch.linspace(lowest, 0.0, round(-lowest) * per_decade + 1, dtype=torch.float64)
    counts = torch.histogram(alive.double().cpu(), edges).hist
    return {"edges": edges.tolist(), "counts": counts.tolist(), "dead": [float((firing == 0).sum())]}


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
