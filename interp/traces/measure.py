"""The outcomes of a rollout, each measured on its own: accuracy, style, verification function, length, repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from interp.statistics import Bootstrap, Interval, Refused
from interp.tasks.base import Problem, Task
from interp.tasks.grading import Grade, grade
from interp.traces.equations import equations, recomputed
from interp.traces.lexicon import Lexicon
from interp.traces.phrases import canonical
from interp.traces.redone import redone
from interp.traces.rollouts import Rollout
from interp.traces.segment import repetition

SHARES = ("accuracy", "finished", "repetition")
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

    def at(self, places: Int[np.ndarray, " m"]) -> Outcomes:
        """The problems at these places."""
        return Outcomes({outcome: (top[places], bottom[places]) for outcome, (top, bottom) in self.parts.items()})

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
        draws = self.change_draws(other, outcome, bootstrap)
        if draws is None:
            return Refused("nothing to divide by: the event never occurred in one of the runs")
        return bootstrap.interval(self.value(outcome) - other.value(outcome), draws)

    def change_draws(self, other: Outcomes, outcome: str, bootstrap: Bootstrap) -> np.ndarray | None:
        """Resamples of `change_from`; None where the event never occurred in one of the runs."""
        (top, bottom), (top0, bottom0) = self.parts[outcome], other.parts[outcome]
        if bottom.sum() == 0 or bottom0.sum() == 0:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            after = bootstrap.sums(top) / bootstrap.sums(bottom)
            before = bootstrap.sums(top0) / bootstrap.sums(bottom0)
        draws = after - before
        return draws[np.isfinite(draws)]


def measure(
    task: Task,
    lexicon: Lexicon,
    problems: Sequence[Problem],
    rollouts: Sequence[Rollout],
    grades: Sequence[Grade] | None = None,
) -> Outcomes:
    """The outcomes of one rollout per problem; `grades` are the rollouts' where they are known already.

    `marker_density` is markers per 100 tokens; `verification_rate` the share of wrong steps (equations of two operands
    that do not hold and are not themselves a recomputation) that are followed by their correct recomputation;
    `redone` the steps worked again per rollout, in equations or prose, and `revised` the share of them that comes to
    another result than before; `finished` the share of completions that ended within the limit. A completion on which
    the grader raises counts as wrong.
    """
    if grades is None:
        grades = grade_all(task, problems, rollouts)
    ones = np.ones(len(problems))
    tokens = np.array([len(r.completion_ids) for r in rollouts], dtype=np.float64)
    repaired = np.array([verification(task, r.text) for r in rollouts], dtype=np.float64).reshape(-1, 2)
    again = np.array([revision(r.text, lexicon) for r in rollouts], dtype=np.float64).reshape(-1, 2)
    return Outcomes(
        {
            "accuracy": (np.array([g.correct for g in grades], dtype=np.float64), ones),
            "marker_density": (100.0 * np.array([len(lexicon.marker_spans(r.text)) for r in rollouts]), tokens),
            "verification_rate": (repaired[:, 0], repaired[:, 1]),
            "redone": (again[:, 1], ones),
            "revised": (again[:, 0], again[:, 1]),
            "length": (tokens, ones),
            "finished": (np.array([r.finished for r in rollouts], dtype=np.float64), ones),
            "repetition": (np.array([repetition(r.completion_ids) for r in rollouts]), ones),
        }
    )


def grade_all(task: Task, problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[Grade]:
    """The grade of one rollout per problem."""
    return [grade(task, p, r.text) for p, r in zip(problems, rollouts, strict=True)]


def equal(a: str, b: str) -> bool:
    """Whether two numbers are the same, whatever their spelling."""
    return a == b or Fraction(a) == Fraction(b)


def revision(text: str, lexicon: Lexicon) -> tuple[int, int]:
    """(steps worked again that come to another result, steps worked again) of a text."""
    again = redone(text, lexicon)
    return sum(not _same(step.first_result, step.again_result) for step in again), len(again)


def _same(first: str, again: str) -> bool:
    """Whether two results are one, numbers by their value and words by their canonical form."""
    try:
        return equal(first, again)
    except (ValueError, ZeroDivisionError):
        return canonical(first) == canonical(again)


def verification(task: Task, text: str) -> tuple[int, int]:
    """(wrong steps that were followed by their correct recomputation, wrong steps) of a text."""
    worked = equations(text)
    again_of = {first.start: again for first, again in recomputed(worked)}
    second = {again.start for again in again_of.values()}
    repaired = wrong = 0
    for equation in worked:
        truth = task.true_result(*equation.binary) if equation.binary else None
        if equation.start in second or truth is None or equal(truth, equation.result):
            continue
        wrong += 1
        again = again_of.get(equation.start)
        repaired += again is not None and equal(again.result, truth)
    return repaired, wrong
