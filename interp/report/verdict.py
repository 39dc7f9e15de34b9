"""The verdict in words, the known truth, and the arms that it is read from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp.report.inputs import Study
from interp.report.numbers import METRICS, Estimate, Shown, number, read_estimate, real, show
from interp.report.numbers import Metric as Kind

SENTENCES = {
    "decorative": "The gain does not run on the style: accuracy stays within the bound when the style is taken away, "
    "when the verification is, and when both are. The words are decoration.",
    "redundant": "The words and the work stand in for each other: taking either away costs nothing, taking both away "
    "costs accuracy.",
    "functional": "The gain runs on the work, not on the words: taking the verification away costs accuracy, taking "
    "the style away does not. The words are a by-product of work that matters.",
    "functional, opened by its words": "The gain runs on the work, and the words open it: taking the verification away "
    "costs accuracy; taking the style away costs it only where the verification goes with it.",
    "stylistic": "The gain runs on stylistic circuitry: taking the style away, with the function kept, costs accuracy.",
    "harmful": "The style costs accuracy: taking it away, with the function kept, raises it.",
    "undetermined": "The study does not decide whether the gain runs on the style.",
    "no gain": "There is no gain to explain: the distilled model is not reliably better than the base.",
    "no gain beyond training": "There is no gain of the traces' own to explain: the distilled model is not reliably "
    "better than the control, which was trained as long on plain traces.",
}
FRACTION = Kind("Mediated fraction", "of the gain", "", 100, 0, "")
READINGS = {"drop": "drop", "no drop": "no-drop"}
"""Readings with a colour of their own."""
WORDS_SHOWN = 20


@dataclass(frozen=True)
class Check:
    """One thing that an arm was to change or to keep."""

    what: str
    untouched: str
    edited: str
    passed: bool
    problem: str


@dataclass(frozen=True)
class Arm:
    """One line of the reading table."""

    name: str
    claim: str
    own: Shown
    net: Shown
    beyond: Shown
    control: str
    reading: str
    css: str
    why: str
    """Why a loss above the bound is no drop."""
    needed: str
    read: bool
    """Whether the verdict is read from it."""
    failed: list[str]
    checks: list[Check]


@dataclass(frozen=True)
class Verdict:
    """The head of the page."""

    name: str
    sentence: str
    why: str
    truth: str
    agreement: str
    """`agrees`, `disagrees`, `undecided`, or nothing where the truth is not known."""
    bound: str
    gain: Shown
    over_control: Shown | None
    """Gain over the control fine-tune, None where there is none."""
    fraction: Shown
    arms: list[Arm]
    coverage: str
    """Per cent of what sets the model's words apart that listed markers account for."""
    unlisted: list[str]
    """Words that set it apart and that no lexicon lists."""
    seed: str


def read_verdict(study: Study) -> Verdict:
    """The causal stage's verdict as text."""
    raw = study.verdict
    name, truth = str(raw.get("verdict") or "missing"), raw.get("truth")
    bound, coverage, over = real(raw.get("bound")), real(raw.get("coverage")), raw.get("gain_over_control")
    return Verdict(
        name=name,
        sentence=SENTENCES.get(name, "The causal stage gave no verdict that this report knows."),
        why=str(raw.get("why") or ""),
        truth=str(truth or ""),
        agreement=_agreement(name, str(truth)) if truth else "",
        bound=number(None if bound is None else 100 * bound, 1),
        gain=_points(raw.get("gain")),
        over_control=None if over is None else _points(over),
        fraction=show(read_estimate(raw.get("mediated_fraction")), FRACTION),
        arms=read_arms(raw),
        coverage=number(None if coverage is None else 100 * coverage, 0),
        unlisted=[_word(word) for word in (raw.get("unlisted") or [])[:WORDS_SHOWN]],
        seed=str(raw.get("seed", "–")),
    )


def read_arms(raw: Mapping[str, Any]) -> list[Arm]:
    """The arms of a verdict, or of the verdict through the circuit."""
    source = set((raw.get("read_from") or {}).values())
    return [_arm(key, arm, key in source) for key, arm in arms_of(raw).items()]


def arms_of(verdict: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name to what `verdict.json` says of each arm."""
    return {str(name): arm for name, arm in (verdict.get("arms") or {}).items() if isinstance(arm, dict)}


def what_it_did(verdict: Mapping[str, Any], name: str) -> str:
    """An arm's name and, where it failed its checks, what it did instead, without the numbers."""
    failed = arms_of(verdict).get(name, {}).get("failed") or []
    did = ", ".join(str(problem).partition(" (")[0] for problem in failed)
    return f"{name}: {did}" if did else name


def _agreement(verdict: str, truth: str) -> str:
    if verdict == truth:
        return "agrees"
    return "undecided" if verdict == "undetermined" else "disagrees"


def _points(raw: object) -> Shown:
    return show(read_estimate(raw), METRICS["accuracy"], signed=True)


def _arm(name: str, raw: dict[str, Any], read: bool) -> Arm:
    control, needed, beyond = real(raw.get("control_drop")), raw.get("needed"), raw.get("beyond")
    reading = str(raw.get("reading") or "not read")
    return Arm(
        name=name,
        claim=str(raw.get("claim") or ""),
        own=_points(raw.get("own")),
        net=_points(raw.get("net")),
        beyond=show(Estimate(None, refused="no controls"), FRACTION) if beyond is None else _points(beyond),
        control=number(None if control is None else 100 * control, 1, signed=True),
        reading=reading,
        css=READINGS.get(reading, "open"),
        why=str(raw.get("why") or ""),
        needed=number(needed, 0) if needed else "",
        read=read,
        failed=[str(problem) for problem in raw.get("failed") or []],
        checks=[_check(check) for check in raw.get("checks") or []],
    )


def _check(raw: Mapping[str, Any]) -> Check:
    return Check(
        what=str(raw.get("what") or ""),
        untouched=significant(real(raw.get("untouched"))),
        edited=significant(real(raw.get("edited"))),
        passed=raw.get("passed") is True,
        problem=str(raw.get("problem") or ""),
    )


def significant(value: float | None) -> str:
    """A number of any unit, to three significant digits."""
    digits = 0 if not value else max(0, 2 - math.floor(math.log10(abs(value))))
    return number(value, digits)


def _word(raw: Mapping[str, Any]) -> str:
    share = real(raw.get("problems"))
    return (
        f"{raw.get('word')} (z {number(real(raw.get('z')), 1)}, {number(None if share is None else 100 * share, 0)} %)"
    )
