"""Latents that fire inside a behaviour: AUROC on one half of the problems, confirmed on the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csc_array
from scipy.stats import false_discovery_control, norm, rankdata

from interp.features.codes import column, size

FEWEST = 20
"""Positions of a behaviour that each half needs before latents are scored on it."""


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
    for j in range(n_latents):
        rows, values = column(f, j)
        pos, neg = values[positive[rows]], values[negative[rows]]
        if len(pos) + len(neg) == 0:
            continue
        u, ties = _u_statistic(pos, neg, n_pos, n_neg)
        scores.auroc[j] = u / (n_pos * n_neg)
        scores.d[j] = _cohens_d(pos, neg, n_pos, n_neg)
        scores.p[j] = _mann_whitney_p(u, n_pos, n_neg, ties)
    return scores


def _u_statistic(pos: np.ndarray, neg: np.ndarray, n_pos: int, n_neg: int) -> tuple[float, int]:
    """Mann-Whitney's U of all rows from the active ones, and the number of rows tied at zero."""
    zero_pos, zero_neg = n_pos - len(pos), n_neg - len(neg)
    ranks = rankdata(np.concatenate([pos, neg]))[: len(pos)]
    u_active = ranks.sum() - len(pos) * (len(pos) + 1) / 2
    return float(u_active + len(pos) * zero_neg + 0.5 * zero_pos * zero_neg), zero_pos + zero_neg


def _mann_whitney_p(u: float, n_pos: int, n_neg: int, ties: int) -> float:
    n = n_pos + n_neg
    variance = n_pos * n_neg / 12 * (n + 1 - (ties**3 - ties) / (n * (n - 1)))
    return float(norm.sf((u - n_pos * n_neg / 2 - 0.5) / np.sqrt(variance))) if variance > 0 else 1.0


def _cohens_d(pos: np.ndarray, neg: np.ndarray, n_pos: int, n_neg: int) -> float:
    mean_pos, mean_neg = pos.sum() / n_pos, neg.sum() / n_neg
    var_pos = np.square(pos).sum() / n_pos - mean_pos**2
    var_neg = np.square(neg).sum() / n_neg - mean_neg**2
    pooled = np.sqrt((n_pos * var_pos + n_neg * var_neg) / (n_pos + n_neg))
    return float((mean_pos - mean_neg) / pooled) if pooled > 0 else 0.0


def q_values(p: Float[np.ndarray, " latents"], alive: Bool[np.ndarray, " latents"]) -> Float[np.ndarray, " latents"]:
    """Benjamini and Hochberg's over the live latents; 1 for dead ones."""
    q = np.ones(len(p))
    if alive.any():
        q[alive] = false_discovery_control(p[alive])
    return q
