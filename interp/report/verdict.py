"""The verdict in words, the known truth, and the readings that lead to it."""

from __future__ import annotations

from dataclasses import dataclass

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
    "stylistic": "The gain runs on stylistic circuitry: taking the style away, with the function kept, costs accuracy.",
    "undetermined": "The study does not decide whether the gain runs on the style.",
    "no gain": "There is no gain to explain: the distilled model is not reliably better than the base.",
}
FRACTION = Kind("Mediated fraction", "of the gain", "", 100, 0, "")
READINGS = {"drop": "drop", "no drop": "no-drop"}
"""Readings with a colour of their own."""


@dataclass(frozen=True)
class Arm:
    """One line of the reading table."""

    name: str
    drop: Shown
    control: str
    reading: str
    css: str
    needed: str


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
    fraction: Shown
    arms: list[Arm]
    seed: str


def read_verdict(study: Study) -> Verdict:
    """The causal stage's verdict as text."""
    raw = study.verdict
    name, truth = str(raw.get("verdict") or "missing"), raw.get("truth")
    bound = real(raw.get("bound"))
    return Verdict(
        name=name,
        sentence=SENTENCES.get(name, "The causal stage gave no verdict that this report knows."),
        why=str(raw.get("why") or ""),
        truth=str(truth or ""),
        agreement=_agreement(name, str(truth)) if truth else "",
        bound=number(None if bound is None else 100 * bound, 1),
        gain=show(read_estimate(raw.get("gain")), METRICS["accuracy"], signed=True),
        fraction=_percent(read_estimate(raw.get("mediated_fraction"))),
        arms=[_arm(str(key), arm) for key, arm in (raw.get("arms") or {}).items() if isinstance(arm, dict)],
        seed=str(raw.get("seed", "–")),
    )


def _agreement(verdict: str, truth: str) -> str:
    if verdict == truth:
        return "agrees"
    return "undecided" if verdict == "undetermined" else "disagrees"


def _percent(fraction: Estimate) -> Shown:
    return show(fraction, FRACTION)


def _arm(name: str, raw: dict) -> Arm:
    control, needed = real(raw.get("control_drop")), raw.get("needed")
    reading = str(raw.get("reading") or "not read")
    return Arm(
        name=name,
        drop=show(read_estimate(raw.get("drop")), METRICS["accuracy"], signed=True),
        control=number(None if control is None else 100 * control, 1, signed=True),
        reading=reading,
        css=READINGS.get(reading, "open"),
        needed=number(needed, 0) if needed else "",
    )
