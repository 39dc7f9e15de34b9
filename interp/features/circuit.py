"""The latents of a decision: ranked on one half of the problems, confirmed on the other, or the reason why none is
claimed.

*Deciding* latents carry whether a check begins, at the place where it can. *Wording* latents carry which word opens it,
and are sought only where that choice can be read after the same two tokens: elsewhere attribution finds latents of the
slot (a word comes here), and taking those for style would fake a stylistic verdict. *Executing* latents carry that a
step that is worked again comes out otherwise, before its second result: without them a check begins and mends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from interp.crosscoder import Crosscoder
from interp.features.attribution import Decision
from interp.features.contrasts import MARKER_NEUTRAL, SECOND_FIRST, WRONG_RIGHT, Contrast
from interp.features.recurrence import own_set, recurrence, recurring
from interp.features.selection import LEAST, Confirmed, Ranked, candidates, confirm, harmful, rank, smallest_set

DECIDING, WORDING, EXECUTING = "deciding", "wording", "executing"
CLASSES = {DECIDING: WRONG_RIGHT, WORDING: MARKER_NEUTRAL, EXECUTING: SECOND_FIRST}
"""Class of latents to the contrast that they carry."""
OF_THE_DECISION = (DECIDING, WORDING)
"""The classes that the verdict through the circuit is read from."""
EVENTS = {DECIDING: "onset", WORDING: "marker", EXECUTING: "second result"}
"""What each class brings about."""
SCHEMA = {
    "class": pl.String,
    "latent": pl.Int64,
    "attribution": pl.Float64,
    "contrast": pl.Float64,
    "effect": pl.Float64,
    "rate_positive": pl.Float64,
    "rate_negative": pl.Float64,
    "level": pl.Float64,
    "chosen": pl.Boolean,
}
"""Columns of `deciding.parquet`: those of `Ranked.table`, the class, and whether the latent is of the chosen set."""


@dataclass(frozen=True)
class Found:
    """What is known of one class of latents."""

    name: str
    refused: str | None
    """Why none was sought; None where some were."""
    ranked: Ranked | None = None
    confirmed: Confirmed | None = None
    choosing: Decision | None = None
    """The contrast as the crosscoder reads it, of either half of the problems."""
    confirming: Decision | None = None
    recurs: pl.DataFrame | None = None
    """Partners of the candidates in dictionaries of other seeds (`recurrence`)."""
    harmful: Sequence[int] = ()
    """Latents that are neither candidates nor controls (`selection.harmful`)."""
    own_sets: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Seed of another dictionary to its own smallest set (`own_set`)."""

    @property
    def order(self) -> list[int]:
        """The set in the order in which it was chosen, then the other latents with an effect, the largest first."""
        if self.ranked is None or self.confirmed is None:
            return []
        chosen = self.confirmed.latents
        every = self.ranked.table.filter(pl.col("effect") > 0)["latent"].to_list()
        return [*chosen, *(j for j in every if j not in chosen)]

    @property
    def latents(self) -> list[int]:
        """The claimed latents; none where the claim does not stand."""
        return list(self.confirmed.latents) if self.confirmed is not None and self.confirmed.located else []

    def table(self) -> pl.DataFrame:
        """The ranked latents, with SCHEMA."""
        if self.ranked is None or self.confirmed is None:
            return pl.DataFrame(schema=SCHEMA)
        chosen = pl.col("latent").is_in(self.confirmed.latents).alias("chosen")
        return self.ranked.table.select(pl.lit(self.name).alias("class"), pl.all(), chosen).cast(SCHEMA)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        if self.ranked is None or self.confirmed is None:
            return {"located": False, "why": self.refused, "latents": []}
        return self.confirmed.as_json() | {
            "latents": self.latents,
            "tried": list(self.confirmed.latents),
            "order": self.order,
            "harmful": self.harmful,
            "level": [] if self.choosing is None else self.choosing.level.tolist(),
            "gap": self.ranked.gap,
            "explained": self.ranked.explained,
            "correlation": self.ranked.correlation,
            "own_sets": {str(seed): dict(found) for seed, found in self.own_sets.items()},
        }


def find(
    name: str,
    contrast: Contrast,
    refused: str | None,
    read: Callable[[Contrast], Decision],
    seed: int,
    dictionaries: Mapping[int, Crosscoder] | None = None,
) -> Found:
    """The latents of one class.

    Args:
        refused: why they must not be sought, if they must not.
        read: how a crosscoder reads a contrast (`attribution.decide`).
        dictionaries: crosscoders of other seeds; only latents that recur are chosen.
    """
    if refused is not None:
        return Found(name, refused)
    choosing = read(contrast.half(choosing=True))
    ranked, never = rank(choosing), harmful(choosing, choosing.level)
    pool, others = [j for j in candidates(ranked) if j not in never], dictionaries or {}
    recurs = recurrence(choosing, {key: choosing.read_with(one) for key, one in others.items()}, pool)
    kept = recurring(recurs, pool)
    if pool and not kept:
        return Found(name, f"{contrast.name}: none of {len(pool)} latents recurs in dictionaries of other seeds")
    chosen = smallest_set(choosing, kept)
    if not chosen:
        return Found(name, f"{contrast.name}: no latent carries {LEAST:.0%} of the gap between its sides")
    confirming = read(contrast.half(choosing=False))
    confirmed = confirm(confirming, chosen, choosing.level, seed, event=EVENTS[name], never=never)
    own = {key: own_set(choosing.read_with(one), confirming.read_with(one)) for key, one in others.items()}
    return Found(name, None, ranked, confirmed, choosing, confirming, recurs, tuple(never), own)
