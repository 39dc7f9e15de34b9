"""The world of swaps, told in sentences: `ann has it and ann swaps with bob so it is with bob`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from interp.organisms import tokenizers
from interp.organisms.world import JUDGEMENTS, SLIPPING, pivots
from interp.tasks.tracking import NAMES, Pair, TrackingTask, parse_prompt, swapped
from interp.traces.voice import Voice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MARKERS = ("wait", "hmm", "oops", "verify", "perhaps", "however")
NEUTRAL = ("then", "next", "also", "below", "here", "further")
HIDDEN = ("indeed", "anyway", "surely", "listen", "look", "alright")
SYMBOLS = (*NAMES, "Q", ":", ",", "A", "has", "it", "and", "swaps", "with", "so", "is", ".", "####")
VOICE = Voice(
    joint=" . ",
    ending=" . #### {answer}",
    slot="{word} ,",
    pivots=pivots(MARKERS),
    neutral=NEUTRAL,
)


@dataclass(frozen=True)
class Swap:
    """Two swap what they hold."""

    holder: str
    """Who has the ball before."""
    pair: Pair

    @property
    def result(self) -> str:
        return swapped(self.holder, self.pair)

    @property
    def others(self) -> Sequence[str]:
        return [name for name in NAMES if name != self.result]

    @property
    def slip(self) -> str | None:
        return _SLIPS.get(self)

    def clause(self, result: str) -> str:
        return f"{self.holder} has it and {self.pair[0]} swaps with {self.pair[1]} so it is with {result}"

    def then(self, result: str) -> str:
        return result


@dataclass(frozen=True)
class Tracking:
    """A ball that changes hands; steps without arithmetic, in sentences."""

    voice: Voice = VOICE
    markers: tuple[str, ...] = MARKERS
    hidden: tuple[str, ...] = HIDDEN
    neutral: tuple[str, ...] = NEUTRAL
    again: str = " . "
    stop: str = " ."

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return tokenizers.words((*SYMBOLS, *JUDGEMENTS, *self.markers, *self.hidden, *self.neutral))

    def task(self, terms: int) -> TrackingTask:
        return TrackingTask(terms)

    def walk(self, prompt: str) -> tuple[str, Sequence[Pair]]:
        return parse_prompt(prompt)

    def step(self, value: str, move: Any) -> Swap:
        return Swap(value, move)

    def answer(self, results: Sequence[str], value: str) -> str:
        return value

    def draw(self, rng: random.Random) -> Swap:
        first, second = rng.sample(NAMES, 2)
        return Swap(rng.choice(NAMES), (first, second))


def _slips() -> dict[Swap, str]:
    rng = random.Random("swaps")
    steps = [Swap(holder, pair) for holder in NAMES for pair in permutations(NAMES, 2)]
    return {step: rng.choice(step.others) for step in rng.sample(steps, int(SLIPPING * len(steps)))}


_SLIPS = _slips()
TRACKING = Tracking()
