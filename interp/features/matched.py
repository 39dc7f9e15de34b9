"""Matched latents: sets of latents that an edit could as well have been made of, in how often and how far they move the
residual at the edited places. A draw that lies outside the calliper is not used, and the achieved balance is kept as a
sentence beside the arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NEIGHBOURS = 24
"""A control latent is drawn from this many nearest neighbours."""
CALLIPER = 2.0
"""A draw's size may differ from the edit's by this factor, either way."""
TRIES = 20
"""Draws that are thrown away for each one kept, before a match is given up."""


@dataclass(frozen=True)
class Drawn:
    """Control draws with what is known of their match."""

    draws: list[tuple]
    note: str


def matched_latents(
    selected: Sequence[int],
    firing: Float[np.ndarray, " latents"],
    size: Float[np.ndarray, " latents"],
    draws: int,
    seed: int,
    *,
    never: Sequence[int] = (),
) -> Drawn:
    """Sets as large as `selected`, of latents that fire at the edited places and are not in `never`, each matched to
    one of the selected in firing frequency and in mean edit, `size` = mean of f·‖d‖ per position, of the edited model
    at the edited places.

    Distance is Euclidean in the logarithms of both, in units of their spread over the latents that fire. A set whose
    summed size is not within CALLIPER of the selected set's is redrawn.
    """
    alive = np.flatnonzero((firing > 0) & (size > 0))
    z = np.stack([np.log(firing[alive]), np.log(size[alive])], axis=1)
    z = z / np.maximum(z.std(axis=0), 1e-6)
    place = {int(j): i for i, j in enumerate(alive)}
    barred = {*selected, *never}
    pool = [j for j in alive.tolist() if j not in barred]
    rng = np.random.default_rng(seed)
    wanted = float(size[list(selected)].sum())
    kept: list[tuple[int, ...]] = []
    for _ in range(TRIES * draws):
        if len(kept) == draws:
            break
        drawn = _one_set(selected, pool, place, z, rng)
        if len(drawn) == len(selected) and wanted / CALLIPER <= size[drawn].sum() <= CALLIPER * wanted:
            kept.append(tuple(drawn))
    return Drawn(list(kept), _balance(selected, kept, firing, size, len(pool), draws))


def _one_set(
    selected: Sequence[int], pool: Sequence[int], place: Mapping[int, int], z: np.ndarray, rng: np.random.Generator
) -> list[int]:
    chosen: list[int] = []
    for j in selected:
        free = [c for c in pool if c not in chosen]
        if not free or j not in place:
            return []
        distance = np.linalg.norm(z[[place[c] for c in free]] - z[place[j]], axis=1)
        nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        chosen.append(free[int(rng.choice(nearest))])
    return chosen


def _balance(
    selected: Sequence[int],
    kept: Sequence[tuple[int, ...]],
    firing: np.ndarray,
    size: np.ndarray,
    pool: int,
    asked: int,
) -> str:
    if not kept:
        return f"no set of {len(selected)} of {pool} latents that fire there is within a factor {CALLIPER:g} in size"
    chosen = list(selected)
    ratios = [
        np.median([values[list(drawn)].sum() for drawn in kept]) / max(values[chosen].sum(), 1e-12)
        for values in (firing, size)
    ]
    short = "" if len(kept) == asked else f"; {len(kept)} of {asked} draws within the calliper"
    different = len({j for drawn in kept for j in drawn})
    return (
        f"matched at the edited places, controls / edit: frequency {ratios[0]:.2f}, size {ratios[1]:.2f}; "
        f"{different} different latents of {pool} that fire there{short}"
    )
