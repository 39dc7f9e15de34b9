"""Numbers as the page prints them: units, signs, intervals, and what was refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "–"


@dataclass(frozen=True)
class Metric:
    """How one measured quantity is named and printed."""

    label: str
    unit: str
    change: str
    """Unit of a difference: a share's difference is in percentage points."""
    scale: float
    digits: int
    meaning: str


METRICS = {
    "accuracy": Metric(
        "Accuracy", "%", "points", 100, 1, "share of problems with the right final answer; higher is better"
    ),
    "accuracy_greedy": Metric("Accuracy, greedy", "%", "points", 100, 1, "the same, taking the likeliest token"),
    "marker_density": Metric(
        "Markers", "per 100 tokens", "per 100 tokens", 1, 2, "style markers of the lexicon; higher is more style"
    ),
    "verification_rate": Metric(
        "Verification", "%", "points", 100, 1, "share of wrong steps followed by their correct recomputation"
    ),
    "redone": Metric("Redone steps", "per text", "per text", 1, 2, "steps worked again, in equations or prose"),
    "revised": Metric("Revised", "%", "points", 100, 1, "share of the redone steps that come to another result"),
    "length": Metric("Length", "tokens", "tokens", 1, 1, "mean tokens of a completion"),
    "finished": Metric("Finished", "%", "points", 100, 1, "share of completions that ended within the limit"),
    "repetition": Metric("Repetition", "share", "share", 1, 3, "share of repeated 4-grams; higher is worse"),
    "checks_wrong": Metric(
        "Checks after a wrong step", "%", "points", 100, 1, "share of injected errors; higher is better"
    ),
    "checks_right": Metric(
        "Checks after a right step", "%", "points", 100, 1, "share of the untouched steps; false alarms"
    ),
    "repaired": Metric("Mends the wrong step", "%", "points", 100, 1, "share of injected errors; higher is better"),
    "correct_wrong": Metric(
        "Right answer after a wrong step", "%", "points", 100, 1, "share of injected errors; higher is better"
    ),
    "correct_right": Metric(
        "Right answer after a right step", "%", "points", 100, 1, "share of the untouched steps; higher is better"
    ),
    "variation": Metric(
        "Next token differs", "%", "points", 100, 1, "total variation; 0 the same distribution, 100 nothing in common"
    ),
    "restored": Metric("Restored", "0 to 1", "0 to 1", 1, 2, "0 no effect, 1 the full clean-corrupt difference"),
}


def metric(name: str) -> Metric:
    """The metric of that name; an unknown one is printed under its own name."""
    return METRICS.get(name) or Metric(name, "", "", 1, 3, "")


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    refused: str = ""


@dataclass(frozen=True)
class Shown:
    """An estimate as text. `sort` is the number behind it, for the table's sorting."""

    value: str
    interval: str = ""
    refused: str = ""
    sort: str = ""


def real(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def read_estimate(raw: object) -> Estimate:
    """An `{estimate, low, high}` or `{refused}` of a JSON file."""
    if not isinstance(raw, Mapping):
        return Estimate(real(raw), refused="" if real(raw) is not None else "not measured")
    fields: Mapping[str, Any] = raw
    value, low, high = (real(fields.get(key)) for key in ("estimate", "low", "high"))
    why = str(fields.get("refused") or "")
    return Estimate(value, low, high, why or ("" if value is not None else "not measured"))


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Fixed digits, thousands apart, with a true minus; a missing or non-finite number is a dash."""
    value = real(value)
    if value is None:
        return ABSENT
    rounded = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", "−").replace(",", " ")


def span(sizes: Sequence[int]) -> str:
    """The smallest and the largest of some counts, or the one that they all are."""
    low, high = number(min(sizes), 0), number(max(sizes), 0)
    return low if low == high else f"{low} to {high}"


def show(estimate: Estimate, kind: Metric, signed: bool = False) -> Shown:
    """An estimate in a metric's unit; `signed` for a difference."""
    if estimate.value is None:
        return Shown(ABSENT, refused=estimate.refused)
    scaled = [None if v is None else v * kind.scale for v in (estimate.value, estimate.low, estimate.high)]
    value, low, high = (number(v, kind.digits, signed) for v in scaled)
    has_interval = estimate.low is not None and estimate.high is not None
    return Shown(value, f"[{low}, {high}]" if has_interval else "", estimate.refused, f"{estimate.value:.6g}")


def p_text(p: float | None) -> str:
    """A p value to three places."""
    p = real(p)
    if p is None:
        return ABSENT
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def duration(seconds: float | None) -> str:
    """Seconds as `1 h 02 min`, `3 min 05 s` or `4.2 s`."""
    seconds = real(seconds)
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
