"""The data sets of reasoning-gym (the optional extra `gym`), by name, each with its own scorer."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from interp.errors import InterpError
from interp.tasks.answers import is_number, last_line, last_number, marked_answer, tagged_answer, without_text
from interp.tasks.base import Problem
from interp.tasks.gym_source import entries, generator
from interp.tasks.questions import QuestionTask
from interp.tasks.splits import bucket, fingerprint

DRAWS = 20
"""Entries generated per problem wanted, after which a data set counts as too small."""
SAMPLE = 8
"""Entries examined to decide whether the answers of a data set are numbers or texts."""
NONSENSE = "no answer at all"
"""A text that no scorer may give full marks."""


@dataclass(frozen=True)
class GymTask(QuestionTask):
    """One data set of reasoning-gym. Its scorers give partial marks, a few of them full marks, to a text that merely
    contains the answer; so the answer is extracted from the completion first, and only full marks are correct."""

    data_set: str
    """Name in reasoning-gym."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its config, such as `min_terms`, except `seed` and `size`, which the study sets."""
    name: str = "reasoning_gym"

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` distinct problems; half of all questions, by a checksum of their text, are held out for the test.

        Raises:
            InterpError: reasoning-gym, the data set or an option does not exist, or the data set is unfit for a study.
        """
        first = random.Random(f"{self.data_set}-{split}-{seed}").getrandbits(31)
        found: dict[str, Problem] = {}
        for entry in entries(self.data_set, self.options, first, DRAWS * n):
            question = str(entry["question"])
            if (bucket(question, 2) == 0) == (split == "test"):
                found.setdefault(question, self._problem(question, entry))
            if len(found) == n:
                self._refuse_credulous(entry)
                return list(found.values())
        raise InterpError(
            f"task.data_set = {self.data_set}: {n} {split} problems are wanted and {len(found)} were found; "
            "take fewer (traces.problems), or widen task.options"
        )

    def answer_of(self, completion: str) -> str | None:
        """The answer in `<answer></answer>`, else in the last box or after `####` (in the order that `answers` gives),
        else the last number, or the last line if the data set's answers are texts."""
        stated = tagged_answer(completion) or marked_answer(completion)
        return without_text(stated) if stated else (last_number if self._numeric else last_line)(completion)

    def correct(self, problem: Problem, completion: str) -> bool:
        stated = self.answer_of(completion)
        return stated is not None and self._scorer.score_answer(stated, problem.entry) >= 1

    @cached_property
    def _scorer(self) -> Any:
        return generator(self.data_set, self.options, seed=0, size=1)

    @cached_property
    def _numeric(self) -> bool:
        return all(is_number(str(entry["answer"])) for entry in entries(self.data_set, self.options, 0, SAMPLE))

    def _refuse_credulous(self, entry: Mapping[str, Any]) -> None:
        try:
            fooled = self._scorer.score_answer(NONSENSE, entry) >= 1
        except Exception:  # a scorer that raises on nonsense does not accept it
            return
        if fooled:
            raise InterpError(f"task.data_set = {self.data_set}: its scorer accepts any text; take another data set")

    def _problem(self, question: str, entry: Mapping[str, Any]) -> Problem:
        return Problem(
            id=f"{self.data_set}-{fingerprint(question)}",
            prompt=self.ask(question),
            answer=str(entry["answer"] or ""),  # None where many answers are right and the scorer decides
            difficulty=difficulty(entry),
            entry=entry,
        )


def difficulty(entry: Mapping[str, Any]) -> int:
    """The first of the data set's own measures of difficulty that is a whole number for this entry (in chain_sum the
    number of terms); 0 where there is none."""
    metadata = entry.get("metadata", {})
    measures = metadata.get("difficulty")
    values = [metadata.get(name) for name in measures] if isinstance(measures, Mapping) else [measures]
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), 0)
