"""Claims from papers against measurements: each holds, does not hold, or cannot be decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interp.statistics import Interval, problems_needed

Relation = Literal["more", "same"]


@dataclass(frozen=True)
class Claim:
    """A claim about one outcome: `first` minus `second` is above the bound (more), or within ± the bound (same)."""

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
    """Two arms, the first of which must be more accurate than the second by more than the bound; otherwise the
    claim is uninformative."""


HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"


def read(claim: Claim, effect: Interval, within: Interval, second: float, n: int, bound: float) -> str:
    """`holds`, `does not hold`, or `undecided` with what would decide it.

    `effect` is first minus second with its interval over problems and seeds, `within` the same over problems for these
    seeds alone, and `second` the second arm's outcome: near the ceiling an effect of the bound's size is impossible, so
    the claim cannot be tested.
    """
    bound = bound if claim.bound is None else claim.bound
    if claim.outcome == "accuracy" and claim.relation == "more" and second > 1 - bound and effect.high >= 0:
        return f"{OPEN} (at {second:.3f} {claim.second.replace('_', ' ')} is at the ceiling)"
    decided = _decided(claim.relation, effect, bound)
    if decided is not None:
        return decided
    if _decided(claim.relation, within, bound) is not None:
        return f"{OPEN} (the seeds differ: more seeds are needed)"
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
