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
    summed size is not within CALLIPER of the selected set's is redrawn, and so is one that was drawn before. Where that
    leaves too few, because no others move the residual as far, larger sets, grown from the NEIGHBOURS of each selected
    latent, make up the number.
    """
    alive = np.flatnonzero((firing > 0) & (size > 0))
    z = np.stack([np.log(firing[alive]), np.log(size[alive])], axis=1)
    z = z / np.maximum(z.std(axis=0), 1e-6) if len(z) else z
    place = {int(j): i for i, j in enumerate(alive)}
    barred = {*selected, *never}
    pool = [j for j in alive.tolist() if j not in barred]
    rng = np.random.default_rng(seed)
    wanted = float(size[list(selected)].sum())
    kept: list[tuple[int, ...]] = []
    seen: set[frozenset[int]] = set()
    near = sorted({c for j in selected if j in place and pool for c in _nearest(j, pool, place, z)})
    for grows in (False, True):
        for _ in range(TRIES * draws):
            if len(kept) == draws:
                break
            drawn = _one_set(selected, pool, place, z, rng)
            if grows and drawn:
                drawn = _grown(drawn, near, size, wanted, rng)
            as_many = len(drawn) > len(selected) if grows else len(drawn) == len(selected)
            is_new = frozenset(drawn) not in seen
            if as_many and is_new and wanted / CALLIPER <= size[drawn].sum() <= CALLIPER * wanted:
                kept.append(tuple(drawn))
                seen.add(frozenset(drawn))
    return Drawn(list(kept), _balance(selected, kept, firing, size, len(pool), draws))


def _one_set(
    selected: Sequence[int], pool: Sequence[int], place: Mapping[int, int], z: np.ndarray, rng: np.random.Generator
) -> list[int]:
    chosen: list[int] = []
    for j in selected:
        free = [c for c in pool if c not in chosen]
        if not free or j not in place:
            return []
        chosen.append(int(rng.choice(_nearest(j, free, place, z))))
    return chosen


def _grown(
    drawn: list[int], near: Sequence[int], size: np.ndarray, wanted: float, rng: np.random.Generator
) -> list[int]:
    """The set with others of `near`, in random order, until its summed size is `wanted`."""
    for j in rng.permutation([j for j in near if j not in drawn]).tolist():
        if size[drawn].sum() >= wanted:
            break
        drawn = [*drawn, j]
    return drawn


def _nearest(j: int, free: Sequence[int], place: Mapping[int, int], z: np.ndarray) -> list[int]:
    """The NEIGHBOURS of latent j among some others."""
    distance = np.linalg.norm(z[[place[c] for c in free]] - z[place[j]], axis=1)
    return [free[i] for i in np.argsort(distance, kind="stable")[:NEIGHBOURS]]


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
    most = max(map(len, kept))
    if most > len(selected):
        short += f"; sets of up to {most} latents, since too few of {len(selected)} are as large"
    return (
        f"matched at the edited places, controls / edit: frequency {ratios[0]:.2f}, size {ratios[1]:.2f}; "
        f"{different} different latents of {pool} that fire there{short}"
    )
