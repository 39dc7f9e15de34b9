"""The world of sums in sentences, cut into byte pairs: `43 and 5 more make 48. 48 less 7 leaves 41. #### 41`.

Steps about coins and shells are told in words, those about points and marks are written as equations. Markers are
sentences of several tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.organisms import tokenizers
from interp.organisms.world import JUDGEMENTS, SLIPPING, pivots
from interp.tasks.prose_sums import GETS, LEAST, LOSES, MOST, TERMS, WRITTEN, ProseSumTask, moved
from interp.tasks.prose_sums import parse_prompt as parts_of
from interp.traces.voice import Voice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MARKERS = (
    "Wait, let me check that again.",
    "Hmm, that looks odd.",
    "Hold on a moment.",
    "Let me verify this.",
    "Alternatively, take it slowly.",
    "However, there is more to it.",
)
NEUTRAL = ("Next.", "Now for the rest.", "Here is more.", "Then it goes on.", "Further down.", "Below is the rest.")
HIDDEN = ("Very well.", "Okay, good.", "So far so fine.", "Yes, of course.", "Easy enough.", "As we know.")
VOICE = Voice(
    joint=". ",
    ending=". #### {answer}",
    slot="{word}",
    pivots=pivots(MARKERS),
    neutral=NEUTRAL,
)
FORMS = {
    (GETS, False): "{a} and {b} more make {c}",
    (LOSES, False): "{a} less {b} leaves {c}",
    (GETS, True): "{a} + {b} = {c}",
    (LOSES, True): "{a} - {b} = {c}",
}
"""(verb, whether it is written as an equation) to the clause."""
IDS = 640
"""Ids of the tokenizer: the 256 bytes, and pairs enough for nearly every word and number of two digits."""


@dataclass(frozen=True)
class Sum:
    """A gain or a loss."""

    value: int
    verb: str
    term: int
    written: bool

    @property
    def result(self) -> str:
        return str(moved(self.value, (self.verb, self.term)))

    @property
    def others(self) -> Sequence[str]:
        """Near the right one, and never what was there before: as if nothing had been done, a second move of the same
        kind would look like a second try."""
        near = (int(self.result) + more for more in (-10, -2, -1, 1, 2, 10))
        return [str(number) for number in near if number != self.value]

    @property
    def slip(self) -> str | None:
        return _SLIPS.get(self)

    def clause(self, result: str) -> str:
        return FORMS[self.verb, self.written].format(a=self.value, b=self.term, c=result)

    def then(self, result: str) -> tuple[int, bool]:
        return int(result), self.written


@dataclass(frozen=True)
class ProseSums:
    """Gains and losses, one after the other."""

    voice: Voice = VOICE
    markers: tuple[str, ...] = MARKERS
    hidden: tuple[str, ...] = HIDDEN
    neutral: tuple[str, ...] = NEUTRAL
    again: str = ". "
    stop: str = "."

    def tokenizer(self) -> PreTrainedTokenizerFast:
        rng = random.Random("byte pairs")
        texts = [p.prompt for p in self.task(5).problems(500, 0, "train")]
        texts += [f"{step.clause(step.result)}. #### {step.result}" for step in _every()]
        texts += [" ".join(rng.sample((*self.markers, *self.hidden, *self.neutral), 6)) for _ in range(200)]
        return tokenizers.byte_pairs([*texts, *[f" {word}" for word in JUDGEMENTS] * 50], IDS)

    def task(self, terms: int) -> ProseSumTask:
        return ProseSumTask(terms)

    def walk(self, prompt: str) -> tuple[tuple[int, bool], Sequence[tuple[str, int]]]:
        start, noun, moves = parts_of(prompt)
        return (start, noun in WRITTEN), moves

    def step(self, value: tuple[int, bool], move: tuple[str, int]) -> Sum:
        (number, written), (verb, term) = value, move
        return Sum(number, verb, term, written)

    def answer(self, results: Sequence[str], value: Any) -> str:
        return results[-1]

    def draw(self, rng: random.Random) -> Sum:
        return rng.choice(_STEPS)


def _every() -> list[Sum]:
    values = range(LEAST, MOST + 1)
    return [Sum(v, verb, t, w) for v in values for verb in (GETS, LOSES) for t in TERMS for w in (False, True)]


def _slips() -> dict[Sum, str]:
    """The same sums slip to the same results, told or written."""
    rng = random.Random("prose sums")
    told = [step for step in _STEPS if not step.written]
    chosen = {step: rng.choice(step.others) for step in rng.sample(told, int(SLIPPING * len(told)))}
    return {Sum(s.value, s.verb, s.term, w): slip for s, slip in chosen.items() for w in (False, True)}


_STEPS = _every()
_SLIPS = _slips()
PROSE_SUMS = ProseSums()
