"""The grade of one completion; where the grader raises, the completion is wrong and the error is kept."""

from __future__ import annotations

from dataclasses import dataclass

from interp.errors import InterpError, one_line
from interp.tasks.base import Problem, Task


@dataclass(frozen=True)
class Grade:
    """The grade of one completion."""

    correct: bool
    """Whether the answer is right; False where the grader raised."""
    error: str | None = None
    """The error that the grader raised, None where it raised none. Such a completion was not judged."""

    @property
    def failed(self) -> bool:
        return self.error is not None


def grade(task: Task, problem: Problem, completion: str) -> Grade:
    """The grade of one completion. One text that the grader cannot read must not end a study.

    Raises:
        InterpError: the grader cannot work at all, which the user can fix.
    """
    try:
        return Grade(task.correct(problem, completion))
    except InterpError:
        raise
    except Exception as error:
        return Grade(correct=False, error=f"{type(error).__name__}: {one_line(error)}")
