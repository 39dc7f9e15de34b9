"""Whether located latents recur: a dictionary trained from another seed must hold them too, or they are a property of
the dictionary and not of the model.

Latents of two dictionaries are matched by the cosine of their decoders in the subject, one to one (Hungarian
assignment), among those that fire at the places of decision. Beside it stands what does not depend on a match: whether
the other dictionary has a small set of its own that carries the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.attribution import Decision
from interp.features.matched import SAME
from interp.features.selection import QUARTER, candidates, rank, smallest_set

LEAST = 2 / 3
"""Share of the dictionaries that must hold a latent."""
MOST = 4096
"""Latents of each dictionary that are matched, those that move the residual most at the places of decision."""
SCHEMA = {
    "latent": pl.Int64,
    "dictionary": pl.Int64,
    "partner": pl.Int64,
    "cosine": pl.Float64,
    "recurs": pl.Boolean,
}
"""Columns of `recurrence.parquet`: one row per latent of the set and other dictionary."""


def recurrence(decision: Decision, others: Mapping[int, Decision], latents: Sequence[int]) -> pl.DataFrame:
    """Each latent's partner in every other dictionary, with SCHEMA; a latent without one has cosine 0.

    Args:
        others: seed of a dictionary to the same side of the problems as it reads them (`Decision.read_with`).
    """
    rows = []
    for seed, other in others.items():
        mine, theirs = _moving(decision, latents), _moving(other)
        cosine = _cosines(decision.decoder[mine], other.decoder[theirs])
        partner = _assigned(cosine)
        for latent in latents:
            i = mine.index(latent)
            j = partner.get(i)
            value = 0.0 if j is None else float(cosine[i, j])
            rows.append(
                {
                    "latent": latent,
                    "dictionary": seed,
                    "partner": None if j is None else theirs[j],
                    "cosine": value,
                    "recurs": value >= SAME,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)


def recurring(table: pl.DataFrame, latents: Sequence[int]) -> list[int]:
    """The latents that are in at least two of three dictionaries, their own being one; all where there is no other."""
    if not len(table):
        return list(latents)
    found = dict(table.group_by("latent").agg(pl.col("recurs").sum()).iter_rows())
    others = table["dictionary"].n_unique()
    return [j for j in latents if 1 + found[j] >= LEAST * (1 + others)]


def own_set(choosing: Decision, confirming: Decision) -> dict[str, Any]:
    """The smallest set of another dictionary, chosen and confirmed like the first one's: its latents, the probability
    of an onset that they leave, and whether that is below a quarter."""
    chosen = smallest_set(choosing, candidates(rank(choosing)))
    level, positive = choosing.level[list(chosen)], confirming.positive
    untouched, left = (
        float(confirming.margin.p(logits).mean())
        for logits in (confirming.logits(positive), confirming.logits(positive, chosen, level))
    )
    return {
        "latents": list(chosen),
        "onset": untouched,
        "onset_ablated": left,
        "carries": bool(chosen) and left <= QUARTER * untouched,
    }


def _moving(decision: Decision, always: Sequence[int] = ()) -> list[int]:
    """The latents that fire on either side, at most MOST, and those that must be among them."""
    size = decision.positive.size(decision.decoder) + decision.negative.size(decision.decoder)
    best = np.argsort(-size, kind="stable")[:MOST]
    return list(dict.fromkeys([*always, *(int(j) for j in best if size[j] > 0)]))


def _cosines(a: Float[Tensor, "mine d"], b: Float[Tensor, "theirs d"]) -> Float[np.ndarray, "mine theirs"]:
    first, second = (torch.nn.functional.normalize(x.detach().double(), dim=1) for x in (a, b))
    return (first @ second.T).cpu().numpy()


def _assigned(cosine: Float[np.ndarray, "mine theirs"]) -> dict[int, int]:
    """The one-to-one assignment with the largest summed cosine."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-cosine)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))
