"""Tasks whose problems are questions: a prompt template, a lenient grader, ordinary arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from interp.errors import InterpError, nearest
from interp.tasks.answers import LONGEST, last_value, marked_answer, same_answer
from interp.tasks.base import Problem


@dataclass(frozen=True)
class QuestionTask:
    """Questions put into a prompt; answers are compared by the rules of `equality`."""

    prompt: str = field(default="{question}", kw_only=True)
    """Template in which `{question}` stands for the question."""
    modulus: int | None = field(default=None, kw_only=True)
    """Modulus of the arithmetic of the equations in the traces; None is ordinary arithmetic."""

    @property
    def hashes_first(self) -> bool:
        """Whether `#### 42` is the task's own format, which precedes a box; see `answers`."""
        return False

    def ask(self, question: str) -> str:
        """The prompt that asks a question."""
        return self.prompt.replace("{question}", question)

    def answer_of(self, completion: str) -> str | None:
        """The answer in the last box or after `####` (in the order that `answers` gives), else the last number."""
        marked = marked_answer(completion, self.hashes_first)
        return last_value(completion) if marked is None else marked

    def correct(self, problem: Problem, completion: str) -> bool:
        stated = self.answer_of(completion)
        if stated is None:
            return False
        if len(stated) > LONGEST:  # compared here, so that it is not kept in same_answer's cache
            return stated.strip() == problem.answer.strip()
        return same_answer(problem.answer, stated)

    def true_result(self, a: str, op: str, b: str) -> str | None:
        x, y = Fraction(a), Fraction(b)
        if op in "/÷" and (y == 0 or self.modulus is not None):
            return None
        value = {"+": x + y, "-": x - y, "*": x * y, "×": x * y}.get(op)
        value = x / y if value is None else value
        return str(value % self.modulus if self.modulus is not None else value)


def column(row: Mapping[str, Any], name: str, where: str) -> Any:
    """One column of a row.

    Raises:
        InterpError: there is no such column; the nearest is named.
    """
    if name not in row:
        raise InterpError(f"{where}: no column {name!r}; {nearest(name, row)}")
    return row[name]
