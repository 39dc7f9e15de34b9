"""The removals of a verdict as a table in markdown, for a terminal or a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from interp.report.numbers import ABSENT, METRICS, read_estimate, real, show
from interp.report.verdict import SENTENCES, arms_of, significant

HEADINGS = ("removal", "accuracy lost", "of the gain", "beyond controls", "measured", "reading")
MEASURED = 2
"""Checks shown of an arm, the first of what it claims."""


def removals(verdict: Mapping[str, Any]) -> str:
    """Every removal with what it costs the distilled model, in points of accuracy with 95 % intervals; what of that is
    lost of the gain over the base, and beyond the matched controls; what the arm changed and kept; and how it is read.
    Then the verdict in a sentence. `verdict` is the content of a study's `verdict.json`."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
    lines += [_line(_cells(name, arm)) for name, arm in arms_of(verdict).items()]
    name, gain = str(verdict.get("verdict")), _interval(verdict.get("gain"))
    over = verdict.get("gain_over_control")
    beside = "" if over is None else f", over the control fine-tune {_interval(over)}"
    truth = verdict.get("truth")
    known = f" (truth: {truth})" if truth else ""
    said = f"Verdict: {name}{known}. {SENTENCES.get(name, '')} {verdict.get('why') or ''}".strip()
    return "\n".join([*lines, "", f"Gain over the base {gain} points{beside}.", "", said, ""])


def _cells(name: str, arm: Mapping[str, Any]) -> Iterator[str]:
    yield name
    for key in ("own", "net", "beyond"):
        yield _interval(arm.get(key))
    checks = [check for check in arm.get("checks") or [] if real(check.get("untouched")) is not None][:MEASURED]
    parts = (f"{c['what']} {_plain(c['untouched'])} to {_plain(c['edited'])}" for c in checks)
    yield "; ".join(parts) or ABSENT
    failed = "; ".join(arm.get("failed") or [])
    yield f"not read: {failed}" if failed else " ".join(filter(None, (str(arm.get("reading")), arm.get("why"))))


def _plain(value: object) -> str:
    return significant(real(value))


def _interval(raw: object) -> str:
    if raw is None:
        return ABSENT
    shown = show(read_estimate(raw), METRICS["accuracy"], signed=False)
    return f"{shown.value} {shown.interval}".strip() if not shown.refused else shown.refused


def _line(cells: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
