"""Grading that outlives a grader that raises: such a completion counts as wrong, and is counted as such."""

from __future__ import annotations

from dataclasses import dataclass

from interp.errors import InterpError
from interp.tasks.base import Problem, Task


@dataclass(frozen=True)
class Grade:
    """What a grader made of one completion."""

    correct: bool
    """Whether the answer is right; False where the grader raised."""
    error: str | None = None
    """What the grader raised, if it did: the completion was not judged, and its `correct` says nothing about it."""

    @property
    def failed(self) -> bool:
        return self.error is not None


def grade(task: Task, problem: Problem, completion: str) -> Grade:
    """Grade one completion; a grader runs on whatever a model writes, and one text must not end a study.

    Raises:
        InterpError: the grader cannot work at all, which the user can mend.
    """
    try:
        return Grade(task.correct(problem, completion))
    except InterpError:
        raise
    except Exception as error:
        return Grade(correct=False, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
