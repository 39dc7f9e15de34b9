"""Gains and losses of whole numbers, told in a sentence: `Ann has 43 coins, gets 5, loses 7. How many?`"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from interp.tasks.base import Problem
from interp.tasks.endings import exact_ending
from interp.tasks.splits import drawn_problems

NAMES = ("Ann", "Ben", "Cleo", "Dan")
TOLD, WRITTEN = ("coins", "shells"), ("points", "marks")
"""What is counted: of the first, steps are told in words; of the others, written as equations."""
GETS, LOSES = "gets", "loses"
LEAST, MOST = 30, 69
"""Bounds of every right result."""
TERMS = range(2, 10)
_PROMPT = re.compile(r"\w+ has (\d+) (\w+)(.*)\. How many\?\n$")
_MOVE = re.compile(rf", ({GETS}|{LOSES}) (\d)")
Move = tuple[str, int]


def moved(value: int, move: Move) -> int:
    """What is there after a gain or a loss."""
    verb, term = move
    return value + term if verb == GETS else value - term


def parse_prompt(prompt: str) -> tuple[int, str, list[Move]]:
    """(how many there are at first, what is counted, gains and losses) of a prompt."""
    match = _PROMPT.match(prompt)
    if match is None:
        raise ValueError(f"not a problem of prose_sums: {prompt!r}")
    start, noun, rest = match.groups()
    return int(start), noun, [(verb, int(term)) for verb, term in _MOVE.findall(rest)]


@dataclass(frozen=True)
class ProseSumTask:
    """`terms` - 1 gains and losses of 2 to 9, with results of two digits. The grader demands the exact ending
    `#### n`. The difficulty is the number of steps that change the tens."""

    terms: int = 5
    name: str = "prose_sums"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct problems of a split, the same for the same seed.

        Raises:
            InterpError: there are too few (`drawn_problems`).
        """
        # Of each move about a seventh leaves the bounds near them; three quarters of all are a safe count.
        moves = 2 * len(TERMS) * 3 // 4
        there = len(NAMES) * len(TOLD + WRITTEN) * (MOST - LEAST + 1) * moves ** (self.terms - 1)
        return drawn_problems(self.name, self.terms, there, self._draw, self._problem, n, seed, split)

    def _draw(self, rng: random.Random) -> str:
        value = first = rng.randint(LEAST, MOST)
        moves: list[Move] = []
        while len(moves) < self.terms - 1:
            move = (rng.choice((GETS, LOSES)), rng.choice(TERMS))
            if LEAST <= moved(value, move) <= MOST:
                value = moved(value, move)
                moves.append(move)
        told = "".join(f", {verb} {term}" for verb, term in moves)
        return f"{rng.choice(NAMES)} has {first} {rng.choice(TOLD + WRITTEN)}{told}. How many?\n"

    def _problem(self, prompt: str) -> Problem:
        value, _, moves = parse_prompt(prompt)
        carried = 0
        for move in moves:
            after = moved(value, move)
            carried += after // 10 != value // 10
            value = after
        return Problem(id=prompt.strip(), prompt=prompt, answer=str(value), difficulty=carried)

    def answer_of(self, completion: str) -> str | None:
        return exact_ending(completion, r"-?\d+")

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.answer_of(completion) == problem.answer

    def true_result(self, a: str, op: str, b: str) -> str | None:
        try:
            return str({"+": int(a) + int(b), "-": int(a) - int(b)}[op])
        except (KeyError, ValueError):  # another operator, or a decimal
            return None
