"""What every verifiable task gives: problems, prompts and a grader. Nothing here knows of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Problem:
    """One verifiable problem."""

    id: str
    """Unique within its set; equal ids mean the same problem."""
    prompt: str
    """The text a model continues."""
    answer: str
    """The right final answer."""
    difficulty: int = 0
    """Stratum for stratified tables; what it counts is the task's own affair."""
    trace: str | None = None
    """A worked trace that came with the problem, if any."""
    entry: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """All that the task's own grader wants to see, where the answer alone does not do."""


class Task(Protocol):
    """A source of problems with a grader. Grading reads the completion only, never the prompt."""

    @property
    def name(self) -> str:
        """What the task is called."""
        ...

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` problems of `split` ("train" or "test"); the two splits share none."""
        ...

    def answer_of(self, completion: str) -> str | None:
        """The final answer that a completion states, or None where it states none."""
        ...

    def correct(self, problem: Problem, completion: str) -> bool:
        """Whether the completion's final answer is the problem's."""
        ...

    def true_result(self, a: str, op: str, b: str) -> str | None:
        """The right value of `a op b` in this task's arithmetic, None where it has none."""
        ...
