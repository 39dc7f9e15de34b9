"""From drops to a verdict: the change of accuracy when style, function, or both are removed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.statistics import Bootstrap, Interval, Refused, problems_needed
from interp.traces.measure import Outcomes

STYLE, FUNCTION, BOTH = "style removed, function kept", "function removed, style kept", "both removed"


@dataclass(frozen=True)
class Arm:
    """Runs of one model under one removal, and under its matched controls."""

    edited: Outcomes
    controls: Sequence[Outcomes]


@dataclass(frozen=True)
class Reading:
    """The loss of accuracy under a removal, beyond what matched controls lose."""

    drop: Interval
    """Accuracy lost, a share: untouched minus edited, minus the controls' mean loss; positive is worse."""
    control_drop: float
    """Mean loss under the matched controls, 0 where there are none."""
    reading: str
    """`drop`: the interval is above the bound; `rise`: below minus the bound; `no drop`: between the two;
    `undetermined`: one of them is inside."""
    needed: int | None
    """Problems with which the nearer of the two would be outside the interval, where the reading is undetermined."""


@dataclass(frozen=True)
class Verdict:
    """The reading of a study, with the numbers that lead to it."""

    verdict: str
    why: str
    gain: Interval | Refused
    """Accuracy of distilled minus base."""
    mediated: Interval | Refused
    """Share of the gain lost with the style, beyond matched controls."""
    arms: Mapping[str, Reading]


def losses(arm: Arm, untouched: Outcomes) -> tuple[np.ndarray, float]:
    """(loss of each problem under the removal, mean loss under the controls)."""
    whole = untouched.head(len(arm.edited)).parts["accuracy"][0]
    control = [
        float((untouched.head(len(c)).parts["accuracy"][0] - c.parts["accuracy"][0]).mean()) for c in arm.controls
    ]
    return whole - arm.edited.parts["accuracy"][0], float(np.mean(control)) if control else 0.0


def read(arm: Arm, untouched: Outcomes, bound: float, bootstrap: Bootstrap) -> Reading:
    """Compare a drop with the equivalence bound, on both sides of 0."""
    loss, control = losses(arm, untouched)
    raw = bootstrap.first(len(loss)).difference(loss, within=1.0)
    drop = Interval(raw.estimate - control, raw.low - control, raw.high - control)
    reading = _word(drop, bound)
    nearer = math.copysign(bound, drop.estimate)
    needed = problems_needed(drop, len(loss), nearer) if reading == "undetermined" else None
    return Reading(drop, control, reading, needed)


def _word(drop: Interval, bound: float) -> str:
    if drop.low > bound:
        return "drop"
    if drop.high < -bound:
        return "rise"
    return "no drop" if -bound < drop.low and drop.high < bound else "undetermined"


def mediated_fraction(
    arm: Arm, untouched: Outcomes, base: Outcomes, bootstrap: Bootstrap
) -> tuple[Interval | Refused, Interval | Refused]:
    """(gain, mediated fraction): G = acc(distilled) - acc(base); [drop - mean control drop] / G.

    The fraction is refused where the gain's own interval contains 0.
    """
    gained = untouched.parts["accuracy"][0] - base.parts["accuracy"][0]
    gain = bootstrap.difference(gained, within=1.0)
    if not gain.excludes_zero():
        why = f"the gain over the base, {gain.estimate:.3f} [{gain.low:.3f}, {gain.high:.3f}], may be 0"
        return gain, Refused(why)
    loss, control = losses(arm, untouched)
    below = bootstrap.sums(gained)
    draws = bootstrap.sums(loss - control)[below != 0] / below[below != 0]
    return gain, bootstrap.interval(float((loss - control).sum() / gained.sum()), draws)


def conclude(
    untouched: Outcomes, base: Outcomes, arms: Mapping[str, Arm], bound: float, bootstrap: Bootstrap
) -> Verdict:
    """The protocol's reading table. `arms` holds at least the removal of style."""
    readings = {name: read(arm, untouched, bound, bootstrap) for name, arm in arms.items()}
    gain, mediated = mediated_fraction(arms[STYLE], untouched, base, bootstrap)
    if isinstance(mediated, Refused):
        return Verdict("no gain", f"There is nothing to explain: {mediated.refused}.", gain, mediated, readings)
    if isinstance(gain, Interval) and gain.high < 0:
        return Verdict("no gain", "The distilled model is worse than its base.", gain, mediated, readings)
    verdict, why = _read_table(readings)
    return Verdict(verdict, why, gain, mediated, readings)


WITHOUT = {
    STYLE: "without the markers",
    FUNCTION: "without the verification they announce",
    BOTH: "without the markers and the verification together",
}


def _read_table(readings: Mapping[str, Reading]) -> tuple[str, str]:
    """(verdict, reason), taking the removals in the order style, function, both, as far as they are needed."""
    if readings[STYLE].reading == "drop":
        return "stylistic", "Accuracy falls when the markers are taken away and everything else is kept."
    if readings[STYLE].reading != "no drop":
        return "undetermined", _open(STYLE, readings[STYLE])
    if FUNCTION not in readings:
        return "undetermined", "Nothing is lost without the markers, but the function could not be removed here."
    if readings[FUNCTION].reading == "drop":
        return (
            "functional",
            "Nothing is lost without the markers, and accuracy falls without the verification they announce.",
        )
    if readings[FUNCTION].reading != "no drop":
        return "undetermined", f"Nothing is lost without the markers. {_open(FUNCTION, readings[FUNCTION])}"
    neither = "Nothing is lost without the markers, nor without the verification they announce"
    if BOTH not in readings:
        return "undetermined", f"{neither}, but the two could not be removed together here."
    if readings[BOTH].reading == "drop":
        return "redundant", f"{neither}, but accuracy falls without both: either suffices."
    if readings[BOTH].reading != "no drop":
        return "undetermined", f"{neither}. {_open(BOTH, readings[BOTH])}"
    return "decorative", f"{neither}, nor without both."


def _open(arm: str, reading: Reading) -> str:
    """Why a removal leaves the verdict undetermined."""
    if reading.reading == "rise":
        return f"Accuracy rises {WITHOUT[arm]}, beyond the bound."
    enough = "no number of problems near these" if reading.needed is None else f"about {reading.needed} problems"
    return f"Whether accuracy changes {WITHOUT[arm]} is open; {enough} would decide."


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The part of `verdict.json` that follows from the arms."""
    return {
        "verdict": verdict.verdict,
        "why": verdict.why,
        "gain": verdict.gain.as_dict(),
        "mediated_fraction": verdict.mediated.as_dict(),
        "arms": {
            name: {
                "drop": r.drop.as_dict(),
                "control_drop": r.control_drop,
                "reading": r.reading,
                "needed": r.needed,
            }
            for name, r in verdict.arms.items()
        },
    }
