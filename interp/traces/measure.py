"""The outcomes of a rollout, each measured on its own: accuracy, style, verification function, length, repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from interp.statistics import Bootstrap, Interval, Refused
from interp.tasks.base import Problem, Task
from interp.tasks.grading import Grade, grade
from interp.traces.lexicon import Lexicon
from interp.traces.rollouts import Rollout
from interp.traces.segment import equations, recomputations, repetition

SHARES = ("accuracy", "repetition")
"""Outcomes of one value between 0 and 1 a problem."""


@dataclass(frozen=True)
class Outcomes:
    """Numerator and denominator of every outcome, one value per problem: an outcome is a ratio of sums."""

    parts: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]

    def __len__(self) -> int:
        return len(self.parts["accuracy"][0])

    def head(self, n: int) -> Outcomes:
        """The first `n` problems."""
        return Outcomes({outcome: (top[:n], bottom[:n]) for outcome, (top, bottom) in self.parts.items()})

    def value(self, outcome: str) -> float:
        """The outcome over all problems; nan where its event never occurred."""
        top, bottom = self.parts[outcome]
        return float(top.sum() / bottom.sum()) if bottom.sum() > 0 else float("nan")

    def interval(self, outcome: str, bootstrap: Bootstrap) -> Interval | Refused:
        top, bottom = self.parts[outcome]
        if np.all(bottom == 1):
            return bootstrap.mean(top)
        return bootstrap.ratio(top, bottom)

    def change_from(self, other: Outcomes, outcome: str, bootstrap: Bootstrap) -> Interval | Refused:
        """This minus `other`, paired by problem: both are resampled together."""
        (top, bottom), (top0, bottom0) = self.parts[outcome], other.parts[outcome]
        if np.all(bottom == 1) and np.all(bottom0 == 1):
            return bootstrap.difference(top - top0, within=1.0 if outcome in SHARES else None)
        if bottom.sum() == 0 or bottom0.sum() == 0:
            return Refused("nothing to divide by: the event never occurred in one of the runs")
        with np.errstate(invalid="ignore", divide="ignore"):
            after = bootstrap.sums(top) / bootstrap.sums(bottom)
            before = bootstrap.sums(top0) / bootstrap.sums(bottom0)
        draws = after - before
        return bootstrap.interval(self.value(outcome) - other.value(outcome), draws[np.isfinite(draws)])


def measure(
    task: Task,
    lexicon: Lexicon,
    problems: Sequence[Problem],
    rollouts: Sequence[Rollout],
    grades: Sequence[Grade] | None = None,
) -> Outcomes:
    """The outcomes of one rollout per problem; `grades` are the rollouts' where they are known already.

    `marker_density` is markers per 100 tokens, `verification_rate` the share of wrong steps (equations that do not
    hold and are not themselves a recomputation) that are followed by their correct recomputation. A completion on
    which the grader raises counts as wrong.
    """
    if grades is None:
        grades = grade_all(task, problems, rollouts)
    ones = np.ones(len(problems))
    tokens = np.array([len(r.completion_ids) for r in rollouts], dtype=np.float64)
    repaired = np.array([verification(task, r.text) for r in rollouts], dtype=np.float64).reshape(-1, 2)
    return Outcomes(
        {
            "accuracy": (np.array([g.correct for g in grades], dtype=np.float64), ones),
            "marker_density": (100.0 * np.array([len(lexicon.marker_spans(r.text)) for r in rollouts]), tokens),
            "verification_rate": (repaired[:, 0], repaired[:, 1]),
            "length": (tokens, ones),
            "repetition": (np.array([repetition(r.completion_ids) for r in rollouts]), ones),
        }
    )


def grade_all(task: Task, problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[Grade]:
    """The grade of one rollout per problem."""
    return [grade(task, p, r.text) for p, r in zip(problems, rollouts, strict=True)]


def equal(a: str, b: str) -> bool:
    """Whether two numbers are the same, whatever their spelling."""
    return a == b or Fraction(a) == Fraction(b)


def verification(task: Task, text: str) -> tuple[int, int]:
    """(wrong steps that were followed by their correct recomputation, wrong steps) of a text."""
    again_of = {first.start: again for first, again in recomputations(text)}
    second = {again.start for again in again_of.values()}
    repaired = wrong = 0
    for equation in equations(text):
        truth = task.true_result(*equation.operands)
        if equation.start in second or truth is None or equal(truth, equation.result):
            continue
        wrong += 1
        again = again_of.get(equation.start)
        repaired += again is not None and equal(again.result, truth)
    return repaired, wrong
