"""What an organism's texts are about: problems worked in steps, and the words that may stand between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from interp.tasks.base import Task
from interp.traces.voice import Voice

SLIPPING = 0.1
"""Share of a world's operations that noisy steps mostly give one wrong result, always the same."""


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
        """The step as text, with a result."""
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
    def neutral(self) -> tuple[str, ...]:
        """Words that are no markers and may stand in the place of one."""
        ...

    @property
    def again(self) -> str:
        """Stands between a step and its repetition, in the place of the joint."""
        ...

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every word of prompts and steps that is neither marker nor neutral."""
        ...

    def task(self, terms: int) -> Task:
        """The problems, and how they are graded; `terms` is their length."""
        ...

    def walk(self, prompt: str) -> tuple[str, Sequence[Any]]:
        """The value that the first step of a problem starts from, and what each of its steps does."""
        ...

    def step(self, value: str, move: Any) -> Step:
        """The step that does `move` to `value`, which is the result of the step before it."""
        ...

    def draw(self, rng: Any) -> Step:
        """Any step."""
        ...
