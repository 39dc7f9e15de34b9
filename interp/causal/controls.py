"""Matched controls: random latents matched to the selected ones, random directions of the steering norm."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 24
"""A control latent is drawn from this many nearest neighbours in firing frequency and decoder norm."""


def matched_latents(
    selected: list[int],
    firing: Float[np.ndarray, " latents"],
    norm: Float[np.ndarray, " latents"],
    draws: int,
    rng: np.random.Generator,
) -> list[list[int]]:
    """`draws` sets as large as `selected`, of live latents that are not selected, each matched to one of them.

    Distance is Euclidean in log frequency and log norm, both in units of their spread over the live latents.
    """
    alive = np.flatnonzero((firing > 0) & (norm > 0))
    z = np.stack([np.log(firing[alive]), np.log(norm[alive])], axis=1)
    z = z / np.maximum(z.std(axis=0), 1e-6)
    place = {int(j): i for i, j in enumerate(alive)}
    pool = [j for j in alive.tolist() if j not in set(selected)]
    sets: list[list[int]] = []
    for _ in range(draws):
        chosen: list[int] = []
        for j in selected:
            free = [c for c in pool if c not in chosen]
            distance = np.linalg.norm(z[[place[c] for c in free]] - z[place[j]], axis=1)
            nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS]
            if len(nearest):
                chosen.append(free[int(rng.choice(nearest))])
        sets.append(chosen)
    return sets


def random_directions(like: Float[Tensor, " d_model"], draws: int, seed: int) -> Float[Tensor, "draws d_model"]:
    """Isotropic directions of the norm of `like`."""
    noise = torch.randn(draws, len(like), generator=torch.Generator().manual_seed(seed))
    return noise / noise.norm(dim=1, keepdim=True) * like.norm()
