"""Contrasts: matched pairs of prefixes between which a model may decide differently.

- `wrong / right`: the same step with and without an injected error. It asks whether a model knows of the error.
- `onset / fork`: where its subject began to check, and where it could have. It asks where the decision can be read.
- `marker / neutral`: where a marker comes next, and where a neutral word does, after the same two tokens. It asks
  whether the wording is a choice of the model that can be read, or drawn anew each time.
- `second / first`: before the result of a step that is worked again and comes out otherwise, and before its first
  result. It asks what makes the second working another one than the first.

Each contrast also has a margin: the tokens that the two sides go on with in the subject's own texts.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool

from interp.features.behaviour import selection_half
from interp.features.margin import Margin, PairMargin, margin_of
from interp.models.prefixes import Prefixes
from interp.tasks.base import Task
from interp.traces.events import Event
from interp.traces.injected import KINDS, Injected, inject
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Lexicon, Span
from interp.traces.redone import Redone, redone
from interp.traces.tokens import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WRONG_RIGHT, ONSET_FORK, MARKER_NEUTRAL = "wrong / right", "onset / fork", "marker / neutral"
SECOND_FIRST = "second / first"


@dataclass(frozen=True)
class Pair:
    """Two prefixes of one kind, as token ids from the prompt on."""

    problem: str
    """Problem of the positive one, which decides the half that the pair is of."""
    positive: list[int]
    negative: list[int]


@dataclass(frozen=True)
class Contrast:
    """Pairs of prefixes, and the tokens that the subject goes on with after either."""

    name: str
    pairs: Sequence[Pair]
    margin: Margin | PairMargin | None

    def choosing(self) -> Bool[np.ndarray, " pairs"]:
        """Whether each pair is of the half of the problems on which probes are fitted and latents chosen."""
        return np.array([half_of(pair.problem) for pair in self.pairs], dtype=bool)

    def smaller_half(self) -> int:
        """Number of pairs of the smaller half."""
        chosen = self.choosing()
        return int(min(chosen.sum(), (~chosen).sum()))

    def half(self, *, choosing: bool) -> Contrast:
        """The pairs of one half."""
        return self.only((self.choosing() if choosing else ~self.choosing()).tolist())

    def first(self, n: int) -> Contrast:
        """The first `n` pairs."""
        return self.only([i < n for i in range(len(self.pairs))])

    def only(self, kept: Sequence[bool]) -> Contrast:
        """Some of the pairs."""
        pairs = list(compress(self.pairs, kept))
        return Contrast(self.name, pairs, None if self.margin is None else self.margin.only(kept))


@dataclass(frozen=True)
class InjectedPair:
    """One injected error, with the prefixes as token ids from the prompt on."""

    problem: str
    injected: Injected
    right: list[int]
    wrong: list[int]
    prompt_length: int


def events_of(row: dict) -> list[Event]:
    """The events of a row of `traces.parquet`."""
    return [Event(**event) for event in row["events"]]


def injected_pairs(
    traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, task: Task, seed: int
) -> list[InjectedPair]:
    """One pair for each completion of one model in which a right step can be made wrong without moving the tokens.
    The kind of error that is tried first goes round with the completion's number, and the step's place is drawn."""
    pairs = []
    for number, row in enumerate(traces.iter_rows(named=True)):
        first = number % len(KINDS)
        kinds, offsets = KINDS[first:] + KINDS[:first], token_offsets(tokenizer, row["completion_ids"])
        rng = random.Random(f"injected error/{seed}/{row['problem']}")
        found = inject(row["text"], row["prompt"], offsets, events_of(row), task, rng, kinds)
        if found is not None and (pair := _encoded(row, found, tokenizer)) is not None:
            pairs.append(pair)
    return pairs


def _encoded(row: dict, found: Injected, tokenizer: PreTrainedTokenizerBase) -> InjectedPair | None:
    """None where the error moves the tokens, or where the text does not encode to the ids that were sampled."""
    right, wrong = row["completion_ids"][: found.token + 1], encode(tokenizer, found.wrong)
    if encode(tokenizer, found.right) != right or len(wrong) != len(right):
        return None
    prompt = row["prompt_ids"]
    return InjectedPair(row["problem"], found, [*prompt, *right], [*prompt, *wrong], len(prompt))


def decision_margin(traces: pl.DataFrame) -> Margin | None:
    """The tokens that follow the onsets of one model's traces, and those that follow its forks."""
    after: dict[bool, list[int]] = {True: [], False: []}
    for row in traces.iter_rows(named=True):
        ids = row["completion_ids"]
        for event in events_of(row):
            if event.token + 1 < len(ids):
                after[event.is_onset].append(ids[event.token + 1])
    return margin_of(after[True], after[False])


def wrong_right(pairs: Iterable[InjectedPair], margin: Margin | None) -> Contrast:
    """The injected errors as a contrast; the side with the error is positive."""
    return Contrast(WRONG_RIGHT, [Pair(pair.problem, pair.wrong, pair.right) for pair in pairs], margin)


def onset_fork(traces: pl.DataFrame, margin: Margin | None, most: int, seed: int) -> Contrast:
    """Onsets of one model's traces, each beside a fork of the same kind and of a problem of the same half."""
    onsets, forks = [], []
    for row in traces.iter_rows(named=True):
        for event in events_of(row):
            here = _Place(row["problem"], _prefix(row, event.token), event.kind)
            (onsets if event.is_onset else forks).append(here)
    return Contrast(ONSET_FORK, _matched(onsets, forks, most, random.Random(f"{ONSET_FORK}/{seed}")), margin)


def marker_neutral(
    traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, most: int, seed: int
) -> Contrast:
    """Places of one model's traces where a marker comes next, each beside one where a neutral word does after the same
    two tokens, in a problem of the same half."""
    found: dict[bool, list[_Place]] = {True: [], False: []}
    after: dict[bool, list[int]] = {True: [], False: []}
    for row in traces.iter_rows(named=True):
        ids, starts = row["completion_ids"], _starts(token_offsets(tokenizer, row["completion_ids"]), row["text"])
        for is_marker, spans in (
            (True, lexicon.marker_spans(row["text"])),
            (False, lexicon.neutral_spans(row["text"])),
        ):
            for token in _tokens_at(spans, starts):
                prefix = _prefix(row, token - 1)
                found[is_marker].append(_Place(row["problem"], prefix, tuple(prefix[-2:])))
                after[is_marker].append(ids[token])
    pairs = _matched(found[True], found[False], most, random.Random(f"{MARKER_NEUTRAL}/{seed}"))
    return Contrast(MARKER_NEUTRAL, pairs, margin_of(after[True], after[False]))


def second_first(
    traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, most: int, seed: int
) -> Contrast:
    """Steps of one model's traces that were worked again to another result, up to the first token that differs: the
    second working beside the first. The margin is of these two tokens. Some of the first results are what the model
    would say again, others were drawn at random: `said_again` keeps the former."""
    found = []
    for row in traces.iter_rows(named=True):
        starts = _starts(token_offsets(tokenizer, row["completion_ids"]), row["text"])
        for step in redone(row["text"], lexicon):
            places = _parting(row["completion_ids"], starts, step)
            if places is not None:
                first, second = (_prefix(row, token - 1) for token in places)
                tokens = [row["completion_ids"][token] for token in places]
                found.append((Pair(row["problem"], second, first), tokens[1], tokens[0]))
    random.Random(f"{SECOND_FIRST}/{seed}").shuffle(found)
    pairs, positive, negative = zip(*found[:most], strict=True) if found else ((), (), ())
    return Contrast(SECOND_FIRST, list(pairs), PairMargin(positive, negative) if pairs else None)


def said_again(contrast: Contrast, model: PreTrainedModel, pad_id: int, batch_size: int) -> Contrast:
    """The pairs on whose negative side the model prefers the negative token."""
    if contrast.margin is None:
        return contrast
    with torch.no_grad():
        logits = Prefixes(model, [pair.negative for pair in contrast.pairs], pad_id, batch_size).logits()
        return contrast.only((contrast.margin.of(logits) < 0).tolist())


def _parting(ids: Sequence[int], starts: dict[int, int], step: Redone) -> tuple[int, int] | None:
    """Tokens of the first and of the second working at which their results part; None where they do not, or where a
    result begins in the middle of a token."""
    if step.first_result == step.again_result or not all(at in starts for at in step.result_at):
        return None
    first, again = (starts[at] for at in step.result_at)
    ends = starts.get(step.again[0], again), len(ids)
    for one, other in zip(range(first, ends[0]), range(again, ends[1]), strict=False):
        if ids[one] != ids[other]:
            return one, other
    return None


@dataclass(frozen=True)
class _Place:
    problem: str
    prefix: list[int]
    kind: Hashable


def _prefix(row: dict, token: int) -> list[int]:
    """The prompt and the completion up to one of its tokens; -1 is the prompt alone."""
    return [*row["prompt_ids"], *row["completion_ids"][: token + 1]]


def _starts(offsets: Sequence[tuple[int, int]], text: str) -> dict[int, int]:
    """First character that is no white space of each token that has one, to the token's index; of the pieces of a
    split character, the first."""
    return {
        end - len(piece.lstrip()): i
        for i, (start, end) in reversed(list(enumerate(offsets)))
        if (piece := text[start:end]).strip()
    }


def _tokens_at(spans: Iterable[Span], starts: dict[int, int]) -> list[int]:
    return [starts[span.start] for span in spans if span.start in starts]


def _matched(positive: Sequence[_Place], negative: Sequence[_Place], most: int, rng: random.Random) -> list[Pair]:
    """At most `most` pairs of equal kind and equal half of the problems, in random order."""
    group = _by(negative, lambda place: (place.kind, half_of(place.problem)))
    for places in group.values():
        rng.shuffle(places)
    pairs = []
    for place in rng.sample(list(positive), len(positive)):
        free = group.get((place.kind, half_of(place.problem)))
        if free and len(pairs) < most:
            pairs.append(Pair(place.problem, place.prefix, free.pop().prefix))
    return pairs


def half_of(problem: str) -> bool:
    """Whether a problem is of the half on which latents are chosen."""
    return bool(selection_half([problem])[0])


def _by(places: Iterable[_Place], key: Callable[[_Place], Hashable]) -> dict[Hashable, list[_Place]]:
    groups: dict[Hashable, list[_Place]] = defaultdict(list)
    for place in places:
        groups[key(place)].append(place)
    return groups
