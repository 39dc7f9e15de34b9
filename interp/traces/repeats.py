"""Whether a step repeats another, and what of it is still to come."""

from __future__ import annotations

from interp.traces.equations import Open, equations
from interp.traces.steps import Step

SHORT = 3
"""A result is at most one part in SHORT of its sentence."""
LEAST = 3
"""Words before a result that two steps share; a number stands for one of them."""


def result_at(first: Step, again: Step) -> int | None:
    """Index of the first word of the result, None where the second step is not the first one redone. The result is
    what differs; of two equal sentences, the last number and its unit, else the last word."""
    pairs = enumerate(zip(first, again, strict=False))
    shared = next((i for i, (a, b) in pairs if a.form != b.form), min(len(first), len(again)))
    if shared == len(first) == len(again):
        numbers = (i for i in reversed(range(shared)) if first[i].form[0].isdigit() and _is_short(first, i))
        shared = next(numbers, shared)
    at = min(shared, len(first) - 1, len(again) - 1)
    return at if _enough(first[:at]) and _is_short(first, at) and _is_short(again, at) else None


def _is_short(step: Step, at: int) -> bool:
    return SHORT * (len(step) - at) <= len(step)


def _enough(shared: Step) -> bool:
    spelled = sum(any(map(str.isalpha, word.form)) for word in shared)
    number = any(any(map(str.isdigit, word.form)) for word in shared)
    return spelled + number >= LEAST and spelled >= LEAST - 1


def rest_of_step(text: str, first: Step, writing: Step) -> str | None:
    """The rest of the first working after the words that are written again, the last of which may be half written;
    None unless all are repeated and only a result is left."""
    at = len(writing) - 1
    half = writing[-1].end == len(text) and at < len(first) and writing[-1].form != first[at].form
    done = at + (not half)
    if done >= len(first) or any(a.form != b.form for a, b in zip(writing[:done], first, strict=False)):
        return None
    if not _enough(first[:done]) or not _is_short(first, done):
        return None
    if half:
        begun = first[done].form.startswith(writing[-1].form)
        return text[first[done].start + len(text) - writing[-1].start : first[-1].end] if begun else None
    raw, after = text[first[done - 1].end : first[-1].end], text[writing[-1].end :]
    if raw.startswith(after):
        return raw[len(after) :]
    return " " * text[-1].isalnum() + text[first[done].start : first[-1].end]


def rest_of_equation(text: str, opened: Open) -> str | None:
    """The rest of the result of the equation before, where that has the same operands and begins as this result does;
    None where nothing is left."""
    earlier = equations(text[: opened.start])
    if not earlier or earlier[-1].operands != opened.operands:
        return None
    first = earlier[-1]
    shown, after = text[first.shown : first.end], text[opened.equals :]
    if opened.written:
        return shown[len(opened.written) :] or None if shown.startswith(opened.written) else None
    if after:
        return None if "-" in after else shown
    lead = text[first.equals : first.shown]
    space = lead[: len(lead) - len(lead.lstrip())]
    return (space or " " * text[-1].isalpha()) + shown
