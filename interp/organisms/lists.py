"""The world of letters put in order, cut into characters: `cab first is a. cb first is b. #### abc`."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.organisms import tokenizers
from interp.organisms.world import pivots
from interp.tasks.lists import LETTERS, Letters, ListTask, parse_prompt
from interp.traces.voice import Voice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# With capitals, since no step begins with one: the first character of a word must say that a word comes.
MARKERS = ("Wait", "Hmm", "Oops", "Check", "Maybe", "Instead")
NEUTRAL = ("Next", "Now", "Here", "Then", "Also", "Below")
HIDDEN = ("Well", "Okay", "See", "Yes", "Fine", "Good")
VOICE = Voice(
    joint=". ",
    ending=". #### {answer}",
    slot="{word},",
    pivots=pivots(MARKERS),
    neutral=NEUTRAL,
)
OVERLOOKED = "d"
"""Where this letter is the first, noisy steps mostly take the one after it. Of lists of two to four letters of
twenty-two it is the first of 8 to 11 %."""


@dataclass(frozen=True)
class Pick:
    """The first letter of those that are left."""

    letters: Letters

    @property
    def result(self) -> str:
        return min(self.letters)

    @property
    def others(self) -> Sequence[str]:
        return sorted({*self.letters} - {self.result})

    @property
    def slip(self) -> str | None:
        return self.others[0] if self.result == OVERLOOKED else None

    def clause(self, result: str) -> str:
        return f"{''.join(self.letters)} first is {result}"

    def then(self, result: str) -> Letters:
        return tuple(letter for letter in self.letters if letter != result)


@dataclass(frozen=True)
class Lists:
    """Selection sort; all but the last letter are picked."""

    voice: Voice = VOICE
    markers: tuple[str, ...] = MARKERS
    hidden: tuple[str, ...] = HIDDEN
    neutral: tuple[str, ...] = NEUTRAL
    again: str = ". "
    stop: str = "."

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return tokenizers.characters((*string.ascii_letters, *" \n:.,#"))

    def task(self, terms: int) -> ListTask:
        return ListTask(terms)

    def walk(self, prompt: str) -> tuple[Letters, Sequence[None]]:
        letters = parse_prompt(prompt)
        return letters, [None] * (len(letters) - 1)

    def step(self, value: Letters, move: None) -> Pick:
        return Pick(value)

    def answer(self, results: Sequence[str], value: Letters) -> str:
        return "".join((*results, *value))

    def draw(self, rng: random.Random) -> Pick:
        return Pick(tuple(rng.sample(LETTERS, rng.randrange(2, 5))))


LISTS = Lists()
