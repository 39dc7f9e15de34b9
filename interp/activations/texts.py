"""The texts of the token stream: which positions are read, which are repeats of an earlier text, and their order."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt8

IDS = pl.List(pl.Int64)
SCHEMA = {
    "ids": IDS,
    "model": pl.String,
    "problem": pl.String,
    "completion_start": pl.Int64,
    "prompts": pl.List(IDS),
    "fresh": pl.Int64,
}
"""Columns of `texts.parquet`: the fields of `Text`."""


@dataclass(frozen=True)
class Text:
    """One text of the token stream: a prompt and a completion."""

    ids: list[int]
    """Token ids of both, as the edited model reads them."""
    model: str
    """The model that wrote the completion; `given` for a trace of the user's file."""
    problem: str
    """Id of the problem."""
    completion_start: int
    """Number of prompt tokens in `ids`."""
    prompts: Sequence[Sequence[int]] = ()
    """Prompt ids of each model, in the models' order, where they differ; empty where every model reads `ids`."""
    fresh: int = 0
    """First position whose prefix occurs in no earlier text; the rows before it belong to those texts."""

    def read_by(self, slot: int) -> list[int]:
        """Token ids as model number `slot` reads them: its own prompt, and the completion."""
        return [*self.prompts[slot], *self.ids[self.completion_start :]] if self.prompts else self.ids


def first_position(text: Text, skip_first: int) -> int:
    """First position of a text that may be read: after the first `skip_first`, after what an earlier text holds, and
    in the completion where the models read different prompts."""
    return max(skip_first, text.fresh, text.completion_start if text.prompts else 0)


def kept_positions(text: Text, skip_first: int, masked_ids: Collection[int]) -> Bool[np.ndarray, " time"]:
    """Positions of `ids` whose residuals are read: those from `first_position` on that hold none of `masked_ids`."""
    kept = ~np.isin(np.array(text.ids, dtype=np.int64), list(masked_ids))
    kept[: first_position(text, skip_first)] = False
    return kept


def distinct(texts: Sequence[Text], names: Sequence[str]) -> tuple[list[Text], list[UInt8[np.ndarray, " _"]]]:
    """The texts with `fresh` set, so that every token prefix is read in the first text that has it; and per text and
    position a bitmask of the models whose texts have that prefix (bit m: `names[m]`; 0 before `fresh`).

    A prefix is the tokens up to a position, and every model's prompt where these differ.
    """
    matches = _longest_matches(texts)
    written_by = [np.zeros(len(text.ids), dtype=np.uint8) for text in texts]
    for number, text in enumerate(texts):
        bit = 1 << names.index(text.model) if text.model in names else 0
        end, owner = len(text.ids), number
        while end > 0:  # through the texts that own the parts of its prefix
            start, earlier = matches[owner]
            written_by[owner][start:end] |= bit
            end, owner = min(start, end), earlier
    fresh = [replace(text, fresh=length) for text, (length, _) in zip(texts, matches, strict=True)]
    return fresh, written_by


def _longest_matches(texts: Sequence[Text]) -> list[tuple[int, int]]:
    """(tokens, number of the earlier text) of the longest prefix that each text shares with one before it; (0, -1)
    where there is none. In sorted order the longest prefix is shared with a neighbour."""
    group: dict[tuple[tuple[int, ...], ...], int] = {}
    ordered: list[tuple[int, list[int], int]] = []
    found = []
    for number, text in enumerate(texts):
        prompts = group.setdefault(tuple(map(tuple, text.prompts)), len(group))
        place = bisect_left(ordered, (prompts, text.ids, number))
        near = [(ids, i) for other, ids, i in ordered[max(0, place - 1) : place + 1] if other == prompts]
        lengths = [(_shared(text.ids, ids), i) for ids, i in near]
        longest = max(lengths, default=(0, -1))
        found.append(longest if longest[0] else (0, -1))
        ordered.insert(place, (prompts, text.ids, number))
    return found


def _shared(a: list[int], b: list[int]) -> int:
    """Number of tokens that both begin with."""
    n = min(len(a), len(b))
    return n if a[:n] == b[:n] else next(i for i in range(n) if a[i] != b[i])


def mixed(n: int, seed: int) -> list[int]:
    """The numbers 0 to n - 1 in random order: texts are read in it, so that every shard mixes models and problems."""
    return random.Random(f"order of texts/{seed}").sample(range(n), n)


def write_texts(texts: Sequence[Text], path: Path) -> None:
    """Write one row per text, in order."""
    pl.DataFrame([vars(text) for text in texts], schema=SCHEMA).write_parquet(path)


def read_texts(path: Path) -> list[Text]:
    """The texts that `write_texts` wrote."""
    return [Text(**row) for row in pl.read_parquet(path, glob=False).iter_rows(named=True)]
