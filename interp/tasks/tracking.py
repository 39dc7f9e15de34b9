"""Who holds the ball after some swaps: `Q eve : ann bob , cy eve A`. The answer is a name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from interp.tasks.base import Problem
from interp.tasks.endings import exact_ending
from interp.tasks.splits import drawn_problems

NAMES = ("ann", "bob", "cy", "dot", "eve", "fay", "gil")
Pair = tuple[str, str]


def swapped(holder: str, pair: Pair) -> str:
    """Who holds the ball after two have swapped what they hold."""
    first, second = pair
    return {first: second, second: first}.get(holder, holder)


def parse_prompt(prompt: str) -> tuple[str, list[Pair]]:
    """Who holds the ball at first, and the swaps, of `Q name : name name , ... A`."""
    holder, _, rest = prompt.removeprefix("Q ").removesuffix(" A").partition(" : ")
    pairs = (swap.split() for swap in rest.split(" , "))
    return holder, [(first, second) for first, second in pairs]


@dataclass(frozen=True)
class TrackingTask:
    """`terms` - 1 swaps among seven. The grader demands the exact ending `#### name`. The difficulty is the number of
    swaps that move the ball."""

    terms: int = 5
    name: str = "tracking"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct problems of a split, the same for the same seed.

        Raises:
            InterpError: there are too few (`drawn_problems`).
        """
        swaps = len(NAMES) * (len(NAMES) - 1)
        there = len(NAMES) * swaps * (swaps - 2) ** (self.terms - 2)
        return drawn_problems(self.name, self.terms, there, self._draw, self._problem, n, seed, split)

    def _draw(self, rng: random.Random) -> str:
        first, pairs = rng.choice(NAMES), [rng.sample(NAMES, 2)]
        while len(pairs) < self.terms - 1:
            if set(pair := rng.sample(NAMES, 2)) != set(pairs[-1]):  # told again, a swap would look like a second try
                pairs.append(pair)
        return f"Q {first} : {' , '.join(map(' '.join, pairs))} A"

    def _problem(self, prompt: str) -> Problem:
        held = list(holders(prompt))
        moves = sum(a != b for a, b in pairwise(held))
        return Problem(id=prompt, prompt=prompt, answer=held[-1], difficulty=moves)

    def answer_of(self, completion: str) -> str | None:
        return exact_ending(completion, r"\w+")

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.answer_of(completion) == problem.answer

    def true_result(self, a: str, op: str, b: str) -> str | None:
        """None: there is no arithmetic."""
        return None


def holders(prompt: str) -> Iterator[str]:
    """Who holds the ball at first and after each swap."""
    holder, pairs = parse_prompt(prompt)
    yield holder
    for pair in pairs:
        holder = swapped(holder, pair)
        yield holder
