"""The world of arithmetic chains modulo 10: `7 + 5 = 2 ; 2 - 3 = 9 #### 9`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.organisms import tokenizers
from interp.organisms.world import JUDGEMENTS, SLIPPING
from interp.tasks.chains import OPERATORS, ChainTask, apply, parse_prompt
from interp.traces.lexicon import PIVOTS
from interp.traces.voice import Voice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MARKERS = ("wait", "hmm", "actually", "check", "alternatively", "maybe")
NEUTRAL = ("next", "now", "here", "then", "onward", "further")
SYMBOLS = (*map(str, range(10)), "Q", "A", "+", "-", "*", "=", ";", ",", "####")
VOICE = Voice(
    joint=" ; ",
    ending=" #### {answer}",
    slot="{word} ,",
    # There are six markers; the assignment of `actually` and `maybe` to a pivot is arbitrary.
    pivots=dict(
        zip(PIVOTS, (("wait", "hmm"), ("check",), ("alternatively", "maybe"), ("actually",)), strict=True),
    ),
    neutral=NEUTRAL,
)


@dataclass(frozen=True)
class ChainStep:
    """One clause `a op b = result`."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> str:
        return str(apply(self.a, self.op, self.b))

    @property
    def others(self) -> Sequence[str]:
        return [str((int(self.result) + more) % 10) for more in range(1, 10)]

    @property
    def slip(self) -> str | None:
        return MISWORKED.get(self)

    def clause(self, result: str) -> str:
        return f"{self.a} {self.op} {self.b} = {result}"

    def then(self, result: str) -> str:
        return result


@dataclass(frozen=True)
class Chains:
    """Chains of one-digit terms, worked from left to right."""

    voice: Voice = VOICE
    markers: tuple[str, ...] = MARKERS
    hidden: tuple[str, ...] = ()
    neutral: tuple[str, ...] = NEUTRAL
    again: str = " , "
    stop: str = ""

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return tokenizers.words((*SYMBOLS, *JUDGEMENTS, *self.markers, *self.neutral))

    def task(self, terms: int) -> ChainTask:
        return ChainTask(terms)

    def walk(self, prompt: str) -> tuple[str, Sequence[tuple[str, int]]]:
        terms, ops = parse_prompt(prompt)
        return str(terms[0]), list(zip(ops, terms[1:], strict=True))

    def step(self, value: str, move: Any) -> ChainStep:
        op, term = move
        return ChainStep(int(value), op, term)

    def answer(self, results: Sequence[str], value: str) -> str:
        return value

    def draw(self, rng: random.Random) -> ChainStep:
        return ChainStep(rng.randrange(10), rng.choice(OPERATORS), rng.randrange(10))


def _misworked() -> dict[ChainStep, str]:
    rng = random.Random("misworked")
    steps = [ChainStep(a, op, b) for a in range(10) for op in OPERATORS for b in range(10)]
    chosen = rng.sample(steps, int(SLIPPING * len(steps)))
    return {step: step.others[rng.randrange(9)] for step in chosen}


MISWORKED = _misworked()
"""Operations whose wrong result a model learns with the arithmetic and repeats under greedy decoding; the documents
that judge equations judge these ones rightly."""
CHAINS = Chains()
