"""Arithmetic chains modulo 10, worked from left to right: `Q 7 + 5 - 3 A 7 + 5 = 2 ; 2 - 3 = 9 #### 9`."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from interp.errors import InterpError
from interp.tasks.base import Problem
from interp.tasks.splits import bucket

OPERATORS = ("+", "-", "*")
TEST_SHARE = 8
"""One chain in this many is held out, by a checksum of its text, so that the splits are disjoint."""
_ENDING = re.compile(r"#### (\d)\s*$")


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
    """Chains of `terms` one-digit terms. The grader demands the exact ending `#### d`, since under a laxer
    reward a model learns to write on after its answer. The difficulty is the number of products."""

    terms: int = 5
    name: str = "chains"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct chains of a split, the same for the same seed.

        Raises:
            InterpError: `n` is more than nine tenths of the distinct chains (drawing the last ones would take long).
        """
        share = 1 / TEST_SHARE if split == "test" else 1 - 1 / TEST_SHARE
        there = int(0.9 * share * 10 * (10 * len(OPERATORS)) ** (self.terms - 1))
        if n > there:
            raise InterpError(
                f"task.terms = {self.terms}: {n} {split} chains are wanted and about {there} can be drawn; "
                "raise task.terms, or take fewer steps or problems"
            )
        rng = random.Random(f"chains-{self.terms}-{split}-{seed}")
        seen: dict[str, Problem] = {}
        while len(seen) < n:
            prompt = self._draw(rng)
            held_out = bucket(prompt, TEST_SHARE) == 0
            if held_out == (split == "test") and prompt not in seen:
                seen[prompt] = self._problem(prompt)
        return list(seen.values())

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
        match = _ENDING.search(completion)
        return match.group(1) if match and completion.count("####") == 1 else None

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.answer_of(completion) == problem.answer

    def true_result(self, a: str, op: str, b: str) -> str | None:
        try:
            return str(apply(int(a), op, int(b))) if op in OPERATORS else None
        except ValueError:  # a decimal has no value modulo 10
            return None
