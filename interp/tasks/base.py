"""The interface of a verifiable task: problems, prompts and a grader, independent of any model."""

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
    """Stratum of stratified tables, 0 or more; each task says what it counts."""
    trace: str | None = None
    """A worked trace that came with the problem, if any."""
    entry: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """Input of the task's own grader, for tasks where the answer alone is not enough."""


class Task(Protocol):
    """A source of problems with a grader. Grading reads the completion only, never the prompt."""

    @property
    def name(self) -> str:
        """Name of the task."""
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
        """The value of `a op b` in this task's arithmetic, None where it has none."""
        ...
