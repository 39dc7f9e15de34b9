"""Letters put in order, the first of those that are left at a time: `sort d a c b:`, answer `abcd`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import perm

from interp.tasks.base import Problem
from interp.tasks.endings import exact_ending
from interp.tasks.splits import drawn_problems

LETTERS = "abcdfghijklmnpqrstvxyz"
"""Without the vowels of which, with others, four could spell a marker or a neutral word (oh, but, then, also, wait)."""
Letters = tuple[str, ...]


def parse_prompt(prompt: str) -> Letters:
    """The letters of `sort d a c b:`, in their order there."""
    return tuple(prompt.strip().removeprefix("sort ").removesuffix(":").split())


@dataclass(frozen=True)
class ListTask:
    """`terms` different letters of twenty-two. The grader demands the exact ending `#### abcd`. The difficulty is the
    number of pairs that stand in the wrong order."""

    terms: int = 4
    name: str = "lists"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct problems of a split, the same for the same seed.

        Raises:
            InterpError: there are too few (`drawn_problems`).
        """
        there = perm(len(LETTERS), self.terms)
        return drawn_problems(self.name, self.terms, there, self._draw, self._problem, n, seed, split)

    def _draw(self, rng: random.Random) -> str:
        return f"sort {' '.join(rng.sample(LETTERS, self.terms))}:\n"

    def _problem(self, prompt: str) -> Problem:
        letters = parse_prompt(prompt)
        inverted = sum(a > b for i, a in enumerate(letters) for b in letters[i + 1 :])
        return Problem(id=prompt.strip(), prompt=prompt, answer="".join(sorted(letters)), difficulty=inverted)

    def answer_of(self, completion: str) -> str | None:
        return exact_ending(completion, r"[a-z]+")

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.answer_of(completion) == problem.answer

    def true_result(self, a: str, op: str, b: str) -> str | None:
        """None: there is no arithmetic."""
        return None
