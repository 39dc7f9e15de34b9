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
    presumes: tuple[str, str] | None = None
    """Arms of which the first must be more accurate than the second by more than the bound: otherwise there is nothing
    that the claim could be about."""


HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"


def read(claim: Claim, effect: Interval, within: Interval, second: float, n: int, bound: float) -> str:
    """`holds`, `does not hold`, or `cannot tell` with what would decide it. `effect` is first minus second with its
    interval over problems and seeds, `within` the same for these seeds alone, over problems, and `second` the second
    arm's own outcome: where that leaves no room for an effect, none can be missed."""
    bound = bound if claim.bound is None else claim.bound
    if claim.outcome == "accuracy" and claim.relation == "more" and second > 1 - bound and effect.high >= 0:
        return f"{OPEN} (at {second:.3f} {claim.second.replace('_', ' ')} leaves no room)"
    decided = _decided(claim.relation, effect, bound)
    if decided is not None:
        return decided
    if _decided(claim.relation, within, bound) is not None:
        return f"{OPEN} (the seeds differ: needs more of them)"
    nearest = bound if claim.relation == "more" or effect.estimate > 0 else -bound
    needed = problems_needed(effect, n, nearest)
    return f"{OPEN} (needs about {needed:,} problems)" if needed else f"{OPEN} (the effect lies at the bound)"


def _decided(relation: Relation, effect: Interval, bound: float) -> str | None:
    if relation == "more":
        holds, fails = effect.low > bound, effect.high < bound
    else:
        holds = effect.low > -bound and effect.high < bound
        fails = effect.low > bound or effect.high < -bound
    return HOLDS if holds else FAILS if fails else None
