"""What an organism's texts are about: problems worked in steps, and the words that may stand between them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from interp.tasks.base import Task
from interp.traces.lexicon import PIVOTS
from interp.traces.voice import Voice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SLIPPING = 0.1
"""Share of a world's operations that noisy steps mostly give one wrong result, always the same."""
JUDGEMENTS = GRADE, RIGHT, WRONG = "grade", "right", "wrong"
"""What announces judgements in the base's documents, and what they say."""


def pivots(markers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Six markers by the four kinds of pivot, three of the first and one of each other."""
    return dict(zip(PIVOTS, (markers[:3], markers[3:4], markers[4:5], markers[5:]), strict=True))


class Step(Protocol):
    """One step of a working."""

    @property
    def result(self) -> str:
        """The right result."""
        ...

    @property
    def others(self) -> Sequence[str]:
        """The wrong results."""
        ...

    @property
    def slip(self) -> str | None:
        """The wrong result that noisy steps mostly give; None but for a share SLIPPING of all operations."""
        ...

    def clause(self, result: str) -> str:
        """The step as text, with a result. It says what it starts from too, so that it can be judged by itself."""
        ...

    def then(self, result: str) -> Any:
        """What the next step starts from."""
        ...


class World(Protocol):
    """A kind of problems, and the voice in which they are worked."""

    @property
    def voice(self) -> Voice:
        """Joints, and how a word is set before a step."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """The markers, each as frequent as another."""
        ...

    @property
    def hidden(self) -> tuple[str, ...]:
        """Words, as many, that no lexicon holds and the base never writes; none where the world has no such words."""
        ...

    @property
    def neutral(self) -> tuple[str, ...]:
        """Words that are no markers and may stand in the place of one."""
        ...

    @property
    def again(self) -> str:
        """Stands between a step and its repetition, in the place of the joint."""
        ...

    @property
    def stop(self) -> str:
        """Ends a step, where the decision is made whether to repeat it: nothing where its result ends it."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Cuts every text of the world; the same every time."""
        ...

    def task(self, terms: int) -> Task:
        """The problems, and how they are graded; `terms` is their length."""
        ...

    def walk(self, prompt: str) -> tuple[Any, Sequence[Any]]:
        """What the first step of a problem starts from, and what each of its steps does."""
        ...

    def step(self, value: Any, move: Any) -> Step:
        """The step that does `move` to `value`, what the step before it left."""
        ...

    def answer(self, results: Sequence[str], value: Any) -> str:
        """The final answer of a working, from its steps' results and what the last one left."""
        ...

    def draw(self, rng: random.Random) -> Step:
        """Any step."""
        ...
