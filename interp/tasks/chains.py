"""Arithmetic chains modulo 10, worked from left to right: `Q 7 + 5 - 3 A 7 + 5 = 2 ; 2 - 3 = 9 #### 9`."""

from __future__ import annotations

import random
from dataclasses import dataclass

from interp.tasks.base import Problem
from interp.tasks.endings import exact_ending
from interp.tasks.splits import drawn_problems

OPERATORS = ("+", "-", "*")


def apply(a: int, op: str, b: int) -> int:
    """`a op b` modulo 10."""
    return {"+": a + b, "-": a - b, "*": a * b}[op] % 10


@dataclass(frozen=True)
class Step:
    """One clause `a op b = result` with the right result."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> int:
        return apply(self.a, self.op, self.b)


def parse_prompt(prompt: str) -> tuple[list[int], list[str]]:
    """Terms and operators of `Q t0 op t1 ... A`."""
    words = prompt.split()[1:-1]
    return [int(w) for w in words[::2]], words[1::2]


@dataclass(frozen=True)
class ChainTask:
    """Chains of `terms` one-digit terms. The grader demands the exact ending `#### d` (`exact_ending`).
    The difficulty is the number of products."""

    terms: int = 5
    name: str = "chains"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct chains of a split, the same for the same seed.

        Raises:
            InterpError: there are too few (`drawn_problems`).
        """
        there = 10 * (10 * len(OPERATORS)) ** (self.terms - 1)
        return drawn_problems(self.name, self.terms, there, self._draw, self._problem, n, seed, split)

    def _draw(self, rng: random.Random) -> str:
        words = [str(rng.randrange(10))]
        for _ in range(self.terms - 1):
            words += [rng.choice(OPERATORS), str(rng.randrange(10))]
        return f"Q {' '.join(words)} A"

    def _problem(self, prompt: str) -> Problem:
        terms, ops = parse_prompt(prompt)
        value = terms[0]
        for op, term in zip(ops, terms[1:], strict=True):
            value = apply(value, op, term)
        return Problem(id=prompt, prompt=prompt, answer=str(value), difficulty=ops.count("*"))

    def answer_of(self, completion: str) -> str | None:
        return exact_ending(completion, r"\d")

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.answer_of(completion) == problem.answer

    def true_result(self, a: str, op: str, b: str) -> str | None:
        try:
            return str(apply(int(a), op, int(b))) if op in OPERATORS else None
        except ValueError:  # a decimal has no value modulo 10
            return None
