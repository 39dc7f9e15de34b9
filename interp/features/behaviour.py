"""Latents that fire inside a behaviour: AUROC on one half of the problems, confirmed on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array
from scipy.stats import false_discovery_control, norm

from interp.features.codes import size

FEWEST = 20
"""Positions of a behaviour that each half needs before latents are scored on it."""

AT_ONCE = 1 << 22
"""Active entries that are ranked together."""


@dataclass(frozen=True)
class Scores:
    """How well each latent separates positive rows from negative ones."""

    auroc: Float[np.ndarray, " latents"]
    """P(activation on a positive row > on a negative one), ties counting half; .5 is chance."""
    d: Float[np.ndarray, " latents"]
    """Cohen's d, positive minus negative, over the pooled standard deviation."""
    p: Float[np.ndarray, " latents"]
    """Mann-Whitney p, one-sided for firing more on positive rows. Rows of one text are not independent, so it ranks
    latents for selection; the confirmation on other problems is what counts."""

    @classmethod
    def chance(cls, n_latents: int) -> Scores:
        """Scores of latents that were not scored because there are too few positions."""
        return cls(np.full(n_latents, 0.5), np.zeros(n_latents), np.ones(n_latents))


def selection_half(problems: list[str]) -> Bool[np.ndarray, " rows"]:
    """Whether each row's problem belongs to the half on which latents are chosen."""
    # Not a checksum: the task splits its problems by one, and checksums of all its test problems share their parity.
    return np.array([hashlib.sha256(p.encode()).digest()[0] % 2 == 0 for p in problems])


def score(f: csc_array, positive: Bool[np.ndarray, " rows"], negative: Bool[np.ndarray, " rows"]) -> Scores:
    """Score every latent; only its active rows are ranked, the rest being one large tie at zero."""
    n_pos, n_neg, n_latents = int(positive.sum()), int(negative.sum()), size(f)[1]
    scores = Scores.chance(n_latents)
    if n_pos == 0 or n_neg == 0:
        return scores
    for first, last in _groups(f.indptr):
        here = slice(f.indptr[first], f.indptr[last])
        which = np.repeat(np.arange(last - first), np.diff(f.indptr[first : last + 1]))
        rows, values = f.indices[here], f.data[here].astype(np.float64)
        is_pos, is_neg = positive[rows], negative[rows]
        either = is_pos | is_neg
        counts = _Sums(which[either], values[either], is_pos[either], last - first)
        fires = counts.n > 0
        u, ties = counts.u_statistic(n_pos, n_neg)
        chosen = slice(first, last)
        scores.auroc[chosen] = np.where(fires, u / (n_pos * n_neg), 0.5)
        scores.d[chosen] = np.where(fires, counts.cohens_d(n_pos, n_neg), 0.0)
        scores.p[chosen] = np.where(fires, _mann_whitney_p(u, n_pos, n_neg, ties), 1.0)
    return scores


def _groups(indptr: Int[np.ndarray, " latents_and_one"]) -> Iterator[tuple[int, int]]:
    """Runs of latents [first, last) with about AT_ONCE active entries each."""
    first = 0
    while first < len(indptr) - 1:
        last = int(np.searchsorted(indptr, indptr[first] + AT_ONCE, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


class _Sums:
    """Sums over the active entries of some latents, on the positive and on the negative side."""

    def __init__(
        self,
        which: Int[np.ndarray, " active"],
        values: Float[np.ndarray, " active"],
        is_pos: Bool[np.ndarray, " active"],
        n_latents: int,
    ):
        self.n = self._sum(which, None, n_latents)
        self.n_pos = self._sum(which[is_pos], None, n_latents)
        self.ranks_pos = self._sum(which[is_pos], _ranks(which, values)[is_pos], n_latents)
        self.sums = [self._sum(which[side], values[side], n_latents) for side in (is_pos, ~is_pos)]
        self.squares = [self._sum(which[side], values[side] ** 2, n_latents) for side in (is_pos, ~is_pos)]

    @staticmethod
    def _sum(which: np.ndarray, values: np.ndarray | None, n_latents: int) -> Float[np.ndarray, " latents"]:
        return np.bincount(which, weights=values, minlength=n_latents).astype(np.float64)

    def u_statistic(self, n_pos: int, n_neg: int) -> tuple[np.ndarray, np.ndarray]:
        """Mann-Whitney's U of all rows from the active ones, and the number of rows tied at zero."""
        n_active_neg = self.n - self.n_pos
        zero_pos, zero_neg = n_pos - self.n_pos, n_neg - n_active_neg
        u_active = self.ranks_pos - self.n_pos * (self.n_pos + 1) / 2
        return u_active + self.n_pos * zero_neg + 0.5 * zero_pos * zero_neg, zero_pos + zero_neg

    def cohens_d(self, n_pos: int, n_neg: int) -> Float[np.ndarray, " latents"]:
        """Mean difference over the pooled standard deviation, 0 where nothing varies."""
        means = [total / n for total, n in zip(self.sums, (n_pos, n_neg), strict=True)]
        spread = [sq / n - m**2 for sq, n, m in zip(self.squares, (n_pos, n_neg), means, strict=True)]
        pooled = np.sqrt(np.maximum(n_pos * spread[0] + n_neg * spread[1], 0.0) / (n_pos + n_neg))
        return np.divide(means[0] - means[1], pooled, out=np.zeros_like(pooled), where=pooled > 0)


def _ranks(which: Int[np.ndarray, " active"], values: Float[np.ndarray, " active"]) -> Float[np.ndarray, " active"]:
    """Rank of each value within its latent, from 1 on, ties sharing their mean."""
    order = np.lexsort((values, which))
    ordered, latent = values[order], which[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]) | (latent[1:] != latent[:-1])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order))
    begins = np.searchsorted(latent, latent[starts])  # of the latent
    tied = (starts + 1 + ends) / 2 - begins
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(tied, ends - starts)
    return ranks


def _mann_whitney_p(u: np.ndarray, n_pos: int, n_neg: int, ties: np.ndarray) -> Float[np.ndarray, " latents"]:
    n = n_pos + n_neg
    variance = n_pos * n_neg / 12 * (n + 1 - (ties**3 - ties) / (n * (n - 1)))
    above = (u - n_pos * n_neg / 2 - 0.5) / np.sqrt(np.maximum(variance, 1e-12))
    return np.where(variance > 0, norm.sf(above), 1.0)


def q_values(p: Float[np.ndarray, " latents"], alive: Bool[np.ndarray, " latents"]) -> Float[np.ndarray, " latents"]:
    """Benjamini and Hochberg's over the live latents; 1 for dead ones."""
    q = np.ones(len(p))
    if alive.any():
        q[alive] = false_discovery_control(p[alive])
    return q
