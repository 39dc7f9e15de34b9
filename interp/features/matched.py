"""Controls of an edit of latents: *matched* sets, which it could as well have been made of, in how often and how far
they move the residual at the edited places; and, where too few others move it as far, the *same change written
elsewhere*: as often, as far and at the same places, along the decoders of other latents. Latents that point the same
way as those of the edit are no control (`alike`). A draw that lies outside the calliper is not used, and the achieved
balance is kept as a sentence beside the arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")
NEIGHBOURS = 24
"""A control latent is drawn from this many nearest neighbours."""
CALLIPER = 2.0
"""A draw's size may differ from the edit's by this factor, either way."""
SAME = 0.5
"""Cosine of the decoders from which two latents count as the same. Of 300 random directions of width 80 the nearest has
about .4, of wider ones less. At .7 the organism `gated` of seed 0 lost a latent (.54, .56) without which the others do
little, though each of its three dictionaries has a small set that carries the choice."""
TRIES = 20
"""Draws that are thrown away for each one kept, before a match is given up."""


@dataclass(frozen=True)
class Matched:
    """Control draws with what is known of their match."""

    sets: list[tuple[int, ...]]
    """Matched sets, to be edited in the selected latents' stead."""
    along: list[tuple[int, ...]]
    """For each of the selected latents another, along whose decoder its change is written."""
    note: str

    def controls(self, edited: Callable[[tuple[int, ...]], T], along: Callable[[tuple[int, ...]], T]) -> list[T]:
        """One control a draw: the edit of a matched set, or the selected latents' change written along others."""
        return [*map(edited, self.sets), *map(along, self.along)]


def matched_latents(
    selected: Sequence[int],
    firing: Float[np.ndarray, " latents"],
    size: Float[np.ndarray, " latents"],
    draws: int,
    seed: int,
    *,
    never: Sequence[int] = (),
) -> Matched:
    """Sets as large as `selected`, of latents that fire at the edited places and are not in `never`, each matched to
    one of the selected in firing frequency and in mean edit, `size` = mean of f·‖d‖ per position, of the edited model
    at the edited places.

    Distance is Euclidean in the logarithms of both, in units of their spread over the latents that fire. A set whose
    summed size is not within CALLIPER of the selected set's is redrawn, and so is one that was drawn before. Where that
    leaves too few, because no others move the residual as far, latents to write the same change along make up the
    number; no two such draws are the same either.
    """
    alive = np.flatnonzero((firing > 0) & (size > 0))
    z = np.stack([np.log(firing[alive]), np.log(size[alive])], axis=1)
    z = z / np.maximum(z.std(axis=0), 1e-6) if len(z) else z
    place = {int(j): i for i, j in enumerate(alive)}
    barred = {*selected, *never}
    pool = [j for j in alive.tolist() if j not in barred]
    rng = np.random.default_rng(seed)
    wanted = float(size[list(selected)].sum())
    sets: dict[frozenset[int], tuple[int, ...]] = {}
    for _ in range(TRIES * draws):
        if len(sets) == draws:
            break
        drawn = _one_set(selected, pool, place, z, rng)
        if drawn and wanted / CALLIPER <= size[drawn].sum() <= CALLIPER * wanted:
            sets.setdefault(frozenset(drawn), tuple(drawn))
    along: dict[tuple[int, ...], None] = {}
    for _ in range(TRIES * draws if len(selected) <= len(pool) else 0):
        if len(sets) + len(along) == draws:
            break
        along.setdefault(tuple(rng.choice(pool, size=len(selected), replace=False).tolist()))
    kept = list(sets.values())
    return Matched(kept, list(along), _balance(selected, kept, len(along), firing, size, len(pool), draws))


def alike(decoder: Float[Tensor, "latents d_model"], latents: Sequence[int]) -> list[int]:
    """Latents that are no control of an edit of these, themselves among them: those whose decoders lie along one of
    theirs, either way (|cosine| from SAME on). Written along such a one, a change is nearly the same change."""
    unit = decoder / decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
    along = (unit @ unit[list(latents)].T).abs() >= SAME
    return sorted({*latents, *along.any(1).nonzero().flatten().tolist()})


def distinct(rng: np.random.Generator, pool: Sequence[T], k: int, draws: int) -> list[list[T]]:
    """At most `draws` sets of `k`, no two of the same members: all of them where there are no more."""
    if math.comb(len(pool), k) <= draws:
        return [list(one) for one in combinations(pool, k)]
    drawn: dict[frozenset[int], list[T]] = {}
    while len(drawn) < draws:
        places = rng.choice(len(pool), size=k, replace=False).tolist()
        drawn.setdefault(frozenset(places), [pool[i] for i in places])
    return list(drawn.values())


def as_long(directions: Float[Tensor, "n d"], as_these: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each of the directions at the length of its partner; zero stays zero."""
    return directions * (as_these.norm(dim=1) / directions.norm(dim=1).clamp_min(1e-12))[:, None]


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


def _nearest(j: int, free: Sequence[int], place: Mapping[int, int], z: np.ndarray) -> list[int]:
    """The NEIGHBOURS of latent j among some others."""
    distance = np.linalg.norm(z[[place[c] for c in free]] - z[place[j]], axis=1)
    return [free[i] for i in np.argsort(distance, kind="stable")[:NEIGHBOURS]]


def _balance(
    selected: Sequence[int],
    kept: Sequence[tuple[int, ...]],
    along: int,
    firing: np.ndarray,
    size: np.ndarray,
    pool: int,
    asked: int,
) -> str:
    if not kept:
        told = f"no set of {len(selected)} of {pool} latents that fire there is within a factor {CALLIPER:g} in size"
    else:
        chosen = list(selected)
        ratios = [
            np.median([values[list(drawn)].sum() for drawn in kept]) / max(values[chosen].sum(), 1e-12)
            for values in (firing, size)
        ]
        different = len({j for drawn in kept for j in drawn})
        told = (
            f"matched at the edited places, controls / edit: frequency {ratios[0]:.2f}, size {ratios[1]:.2f}; "
            f"{different} different latents of {pool} that fire there"
        )
    if along:
        told += f"; {along} of {len(kept) + along} controls write the same change along other latents' decoders"
    short = len(kept) + along < asked
    return f"{told}; {len(kept) + along} of {asked} draws" if short else told
