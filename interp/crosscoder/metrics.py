"""How well and how sparsely a crosscoder reconstructs rows, and the threshold of its gate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.crosscoder.module import Crosscoder
from interp.crosscoder.rows import RowSource, as_source, chunk_rows, chunks
from interp.crosscoder.sparse import Active
from interp.errors import InterpError, InterpWarning


class Evaluation(NamedTuple):
    """Measurements of a crosscoder under the gate of inference."""

    n_rows: int
    """Rows measured."""
    fve: tuple[float, ...]
    """Per model, the fraction of variance explained: 1 - squared error / squared distance from the rows' mean, each
    summed over all rows. 1 is perfect, 0 no better than the mean, below 0 worse; NaN for a model that never varies."""
    l0: float
    """Mean number of active latents per row."""
    dead_share: float
    """Share of the latents that were active on none of these rows; it falls with the number of rows."""
    firing: Float64[Tensor, " latents"]
    """Share of the rows on which each latent was active."""


def evaluate(crosscoder: Crosscoder, rows: Tensor | RowSource) -> Evaluation:
    """Measure on `rows` (input units, any float type, read in pieces; sums in fp64).

    It does not measure how much of the models' behaviour the reconstruction keeps: for that splice it in.

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
        active = Active.at(f.flatten().nonzero().squeeze(1), *f.shape)
        x_hat = crosscoder.decode_active(f[active.row, active.latent], active)
        error += (x_hat - x).double().square().sum((0, 2))
        moved = x.double() - crosscoder.mean  # near the mean already, so that nothing cancels below
        squares += moved.square().sum((0, 2))
        total += moved.sum(0)
        fired += torch.bincount(active.latent, minlength=n_latents)
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
    """Histogram of how often latents fire: `edges` in log10 of the share of rows, `counts` between them, and `dead`, a
    list with the number of latents that never fired."""
    alive = firing[firing > 0].log10()
    lowest = min(-1.0, float(alive.min().floor())) if len(alive) else -1.0
    edges = torch.linspace(lowest, 0.0, round(-lowest) * per_decade + 1, dtype=torch.float64)
    counts = torch.histogram(alive.double().cpu(), edges).hist
    return {"edges": edges.tolist(), "counts": counts.tolist(), "dead": [float((firing == 0).sum())]}


@torch.no_grad()
def calibrate(crosscoder: Crosscoder, passes: Callable[[], Iterable[Tensor]]) -> Float[Tensor, ""]:
    """The threshold of batch_topk at inference: k scores per row exceed it, on average over the held-out rows.

    `passes` is called twice, and each time gives all rows in pieces [any number, models, d_model] in input units. The
    threshold is the midpoint of the last score kept and the first dropped, or 0 where fewer than k scores per row are
    positive. Scores are counted, not kept, so that time is linear in the rows and memory constant. Warns where L0
    misses k by more than 2 %: too few positive scores, or many equal ones.

    Raises:
        InterpError: no rows.
    """
    k, n_rows = crosscoder.config.k or 0, 0
    # Positive floats are ordered as the integers of their bits: the upper 16 bits first, then the lower 15 of two bins.
    upper = torch.zeros(1 << 16, dtype=torch.long, device=crosscoder.mean.device)
    for bits, n in _positive_scores(crosscoder, passes()):
        upper += torch.bincount(bits >> 15, minlength=len(upper))
        n_rows += n
    if n_rows == 0:
        raise InterpError("rows: there are none to calibrate the threshold on; give at least one")
    wanted, n_positive = k * n_rows, int(upper.sum())
    if n_positive <= wanted:
        _warn_of_l0(n_positive / n_rows, k)
        return crosscoder.mean.new_zeros(())
    kept, dropped = (_Rank.find(upper, rank) for rank in (wanted, wanted + 1))
    lower = {place: torch.zeros(1 << 15, dtype=torch.long, device=upper.device) for place in {kept.bin, dropped.bin}}
    for bits, _ in _positive_scores(crosscoder, passes()):
        for place, counts in lower.items():
            counts += torch.bincount(bits[bits >> 15 == place] & 0x7FFF, minlength=len(counts))
    last, first = (_Rank.find(lower[rank.bin], rank.within) for rank in (kept, dropped))
    pair = torch.tensor([kept.bin << 15 | last.bin, dropped.bin << 15 | first.bin], dtype=torch.int32)
    scores = pair.view(torch.float32)
    threshold = scores.mean()
    above = wanted if threshold < scores[0] else wanted - last.within
    _warn_of_l0(above / n_rows, k)
    return threshold.to(crosscoder.mean.device)


class _Rank(NamedTuple):
    """Where in a histogram the value of a given rank is, counted from the largest (1 is the largest)."""

    bin: int
    within: int
    """Its rank among the values of this bin."""

    @classmethod
    def find(cls, counts: Int[Tensor, " bins"], rank: int) -> _Rank:
        from_top = counts.flip(0).cumsum(0)
        i = int(torch.searchsorted(from_top, rank))
        return cls(len(counts) - 1 - i, rank - (int(from_top[i - 1]) if i else 0))


def _positive_scores(crosscoder: Crosscoder, pieces: Iterable[Tensor]) -> Iterator[tuple[Int[Tensor, " some"], int]]:
    """Bits of the positive scores of each piece, as integers, and its number of rows."""
    for piece in pieces:
        x = crosscoder.normalise(piece.to(crosscoder.mean.device))
        scores = crosscoder.pre_activations(x).relu() * crosscoder.decoder_norms()
        yield scores[scores > 0].view(torch.int32), len(piece)


def _warn_of_l0(l0: float, k: int) -> None:
    if abs(l0 / k - 1) > 0.02:
        message = f"L0 on held-out rows is {l0:.2f}, not k={k} within 2 %"
        warnings.warn(message, InterpWarning, stacklevel=3)
