"""Random directions, the controls of a direction: of its norm, at its site. Draw i depends on seed and i alone, however
many are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions.direction import Direction
from interp.errors import InterpError

_CHUNK = 8192
"""Rows that are in float64 at a time."""


def random_like(direction: Direction, draws: int, seed: int) -> list[Direction]:
    """Directions drawn uniformly from the sphere of the direction's norm.

    They leave the few coordinates with most of the residual's variance nearly alone, so an effect beyond theirs can be
    that of any direction the model uses; `random_in_covariance` is the stricter control.

    Raises:
        InterpError: a number of draws or a seed below 0.
    """
    normal = _normal(direction.d_model, draws, seed)
    return [_drawn(direction, "random_like", row, seed, i) for i, row in enumerate(normal)]


def random_in_covariance(direction: Direction, rows: Float[Tensor, "rows _"], draws: int, seed: int) -> list[Direction]:
    """Directions drawn from N(0, Σ), Σ the covariance of the residual `rows`, then given the direction's norm. They lie
    in the rows' span, and in principal directions as often as the rows' variance does.

    Of centred rows X [N, D] and z ~ N(0, I_N), Xᵀz / √(N - 1) is distributed as N(0, Σ), so no matrix [D, D] is made:
    O(N · D · draws) operations, N · draws numbers of memory.

    Raises:
        InterpError: fewer than two rows, another width, NaN, rows that are all equal; draws or seed below 0.
    """
    if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] != direction.d_model:
        raise InterpError(
            f"{direction.hook_name}: rows of shape {list(rows.shape)} give no covariance for {direction.d_model}"
            " coordinates; give [rows, d_model] with at least two rows"
        )
    mean = rows.detach().mean(0, dtype=torch.float64).cpu()
    if not mean.isfinite().all():
        raise InterpError(f"{direction.hook_name}: rows hold NaN or infinity; leave them out")
    normal = _normal(len(rows), draws, seed)
    sums = torch.zeros(draws, direction.d_model, dtype=torch.float64)
    for start in range(0, len(rows), _CHUNK):
        centred = rows[start : start + _CHUNK].detach().to("cpu", torch.float64) - mean
        sums += normal[:, start : start + _CHUNK] @ centred
    if draws and not sums.any():
        raise InterpError(f"{direction.hook_name}: all rows are equal, so they have no covariance; give others")
    return [_drawn(direction, "random_in_covariance", row, seed, i) for i, row in enumerate(sums)]


def _normal(size: int, draws: int, seed: int) -> Float[Tensor, "draws size"]:
    """Standard normal numbers in float64."""
    if draws < 0 or seed < 0:
        raise InterpError(f"random directions: {draws} draws with seed {seed}; give numbers from 0")
    rows = [np.random.default_rng((seed, draw)).standard_normal(size) for draw in range(draws)]
    return torch.from_numpy(np.array(rows).reshape(draws, size))


def _drawn(like: Direction, method: str, vector: Tensor, seed: int, draw: int) -> Direction:
    """A draw with the norm of `like`, in the same unit of a dose."""
    parent = like.provenance.without_evidence()
    known = {"parents": (parent,), "evidence": {"seed": seed, "draw": draw}}
    blank = type(parent)(model=parent.model, model_hash=parent.model_hash, residual_norm=parent.residual_norm)
    scaled = vector * (like.norm / vector.norm())
    return replace(like, vector=scaled, provenance=blank.made(method, like.norm, **known))
