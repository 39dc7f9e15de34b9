"""A claim from a paper beside what was measured: it holds, it does not, or too few problems tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp.statistics import Interval, problems_needed

Relation = Literal["more", "same"]


@dataclass(frozen=True)
class Claim:
    """`first` minus `second` in one outcome is above the bound (more), or within it either way (same)."""

    says: str
    """The paper's claim in a sentence."""
    source: str
    first: str
    second: str
    relation: Relation
    outcome: str = "accuracy"
    bound: float | None = None
    """In the outcome's unit; None is the study's equivalence bound."""


def read(claim: Claim, effect: Interval, n: int, bound: float) -> str:
    """`holds`, `does not hold`, or `cannot tell (needs about N problems)`; `effect` is first minus second."""
    bound = bound if claim.bound is None else claim.bound
    if claim.relation == "more":
        holds, fails, nearest = effect.low > bound, effect.high < bound, bound
    else:
        holds = effect.low > -bound and effect.high < bound
        fails = effect.low > bound or effect.high < -bound
        nearest = bound if effect.estimate > 0 else -bound
    if holds or fails:
        return "holds" if holds else "does not hold"
    needed = problems_needed(effect, n, nearest)
    return f"cannot tell (needs about {needed:,} problems)" if needed else "cannot tell (the effect is the bound)"
