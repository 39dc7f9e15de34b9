"""What all tasks share whose problems are asked in words: a prompt's template, a lenient grader, ordinary numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from interp.errors import InterpError, nearest
from interp.tasks.answers import last_number, marked_answer, same_answer
from interp.tasks.base import Problem


@dataclass(frozen=True)
class QuestionTask:
    """Questions put into a prompt; answers compared as text, as numbers, or as mathematics."""

    prompt: str = field(default="{question}", kw_only=True)
    """Template in which `{question}` stands for the question."""
    modulus: int | None = field(default=None, kw_only=True)
    """Arithmetic of the equations in the traces; None is ordinary arithmetic."""

    def ask(self, question: str) -> str:
        """The prompt that asks a question."""
        return self.prompt.replace("{question}", question)

    def answer_of(self, completion: str) -> str | None:
        """What stands after the last `####`, else in the last `\\boxed{}`, else the last number."""
        marked = marked_answer(completion)
        return last_number(completion) if marked is None else marked

    def correct(self, problem: Problem, completion: str) -> bool:
        stated = self.answer_of(completion)
        return stated is not None and same_answer(problem.answer, stated)

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
