"""The tokens at which a direction is made: those of a behaviour, and those that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool
from transformers import PreTrainedTokenizerBase

from interp.causal.places import FORKS, Reading
from interp.features.labelled import Labelled
from interp.traces.labels import NEAR, covered, token_offsets
from interp.traces.lexicon import Span

EARLIEST, LATEST = 13, 8
"""Tokens before a behaviour that `before` takes: from the first of these to the second."""
Mask = Bool[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Tokens:
    """The tokens of one completion."""

    behaviour: Mask
    """In a behaviour, whichever."""
    marker: Mask
    fork: Mask
    """Ends of steps and sentences, as `causal.places.FORKS` has them."""

    @property
    def until(self) -> np.ndarray:
        """Tokens until the next one of a behaviour: 0 in it, their number where none follows."""
        distance, found = len(self.behaviour) + NEAR, []
        for here in reversed(self.behaviour.tolist()):
            distance = 0 if here else distance + 1
            found.append(distance)
        return np.array(found[::-1], dtype=int)

    @property
    def elsewhere(self) -> Mask:
        """Off markers and behaviours, and not shortly before one."""
        return ~self.marker & (self.until > NEAR)


def inside(tokens: Tokens) -> tuple[Mask, Mask]:
    """Tokens of a behaviour that are no markers; tokens elsewhere."""
    return tokens.behaviour & ~tokens.marker, tokens.elsewhere


def onset(tokens: Tokens) -> tuple[Mask, Mask]:
    """The first token of each behaviour that is no marker; tokens elsewhere."""
    found, waiting = np.zeros_like(tokens.behaviour), False
    for i, here in enumerate(tokens.behaviour.tolist()):
        waiting = here and (waiting or i == 0 or not tokens.behaviour[i - 1])
        if waiting and not tokens.marker[i]:
            found[i], waiting = True, False
    return found, tokens.elsewhere


def forks(tokens: Tokens) -> tuple[Mask, Mask]:
    """Forks outside behaviours after which one begins before the next fork; those after which none does. Of forks side
    by side, such as the digits of a result, the last one counts."""
    ends = tokens.fork & ~np.append(tokens.fork[1:], False)
    places = ends.nonzero()[0]
    followed = np.zeros_like(ends)
    for place, following in zip(places, [*places[1:], len(ends) - 1], strict=True):
        followed[place] = tokens.behaviour[place + 1 : following + 1].any()
    free = ends & ~tokens.behaviour
    return free & followed, free & ~followed


def before(tokens: Tokens) -> tuple[Mask, Mask]:
    """Tokens EARLIEST to LATEST before a behaviour that are no markers; tokens elsewhere."""
    return (tokens.until >= LATEST) & (tokens.until <= EARLIEST) & ~tokens.marker, tokens.elsewhere


SIDES: dict[str, Callable[[Tokens], tuple[Mask, Mask]]] = {
    "inside": inside,
    "onset": onset,
    "forks": forks,
    "before": before,
}
"""`steering.at` to the two kinds of tokens of a completion."""


def sides(
    data: Labelled, traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, at: str, problems: set[str]
) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Which rows of the store are of the first and of the second kind, in the subject's rollouts of some problems."""
    rollouts = {row["problem"]: row for row in traces.iter_rows(named=True) if row["problem"] in problems}
    text_of, position = (data.store.index[name].to_numpy() for name in ("text", "position"))
    starts = np.searchsorted(text_of, np.arange(len(data.texts) + 1))
    found = np.zeros((2, len(text_of)), dtype=bool)
    for i, text in enumerate(data.texts.iter_rows(named=True)):
        rollout = rollouts.get(text["problem"]) if text["model"] == data.subject else None
        if rollout is None or not rollout["completion_ids"]:
            continue
        here = slice(starts[i], starts[i + 1])
        place = position[here] - text["completion_start"]
        for side, mask in enumerate(SIDES[at](tokens_of(rollout, tokenizer))):
            found[side, here] = (place >= 0) & mask[np.clip(place, 0, len(mask) - 1)]
    return found[0], found[1]


def tokens_of(rollout: dict, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The tokens of one row of `traces.parquet`."""
    offsets = token_offsets(tokenizer, rollout["completion_ids"])
    behaviours, markers = ([Span(**s) for s in rollout[f"{kind}_spans"]] for kind in ("behaviour", "marker"))
    prefixes = [rollout["text"][:end] for _, end in offsets]
    return Tokens(np.array(covered(offsets, behaviours)), np.array(covered(offsets, markers)), at_forks(prefixes))


def at_forks(prefixes: Sequence[str]) -> Mask:
    """Which texts end at a fork."""
    ones = torch.ones(len(prefixes), 1, dtype=torch.bool)
    reading = Reading(
        ones.long(), ones, ~ones, numbers=torch.zeros(len(prefixes), dtype=torch.long), texts=lambda: prefixes
    )
    return FORKS.mask(reading)[:, 0].numpy()
