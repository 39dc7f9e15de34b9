"""Events: the places of a text where a behaviour begins, and comparable places where none does.

An *onset* is the last token before a behaviour begins; a *fork* is a place of the same kind at which one could have
begun and did not. Both follow from labelled spans alone: the kind of a place is the shape of the two units of text
before it (`= 0` after a result, `a .` after a sentence), and the kinds that count are those of the onsets. On equations
these are the ends of steps.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from interp.traces.equations import equations
from interp.traces.lexicon import Span
from interp.traces.sentences import ENDS

COMMON = 0.05
"""Share of the onsets from which a kind of place counts; forks of rarer kinds would be most of a text."""
_NUMBER = r"(?:(?<![\w)])(?<![\w)]\s)[-−])?\d+(?:[.,]\d+)*"  # a minus behind a number or a bracket is an operator
_UNIT = re.compile(rf"{_NUMBER}|[^\W\d]+|\n+|[^\s\w]")


@dataclass(frozen=True)
class Event:
    """A place of a completion."""

    token: int
    """Index of the last token before it; the decision is made while this token is read."""
    kind: str
    """Shape of the two units of text before it."""
    behaviour: str | None
    """The first behaviour that begins here; None at a fork."""

    @property
    def is_onset(self) -> bool:
        return self.behaviour is not None


@dataclass(frozen=True)
class Place:
    """A boundary between two units of text that is also one between two tokens."""

    token: int
    """Index of the last token before it."""
    after: int
    """Character at which the unit after it begins."""
    kind: str


def places(text: str, offsets: Sequence[tuple[int, int]]) -> list[Place]:
    """Every place of a text whose tokens cover these characters, in order; none before the second unit. A character
    that is split into several tokens is theirs together: a place is before the first of them."""
    ends, found = [end for _, end in offsets], []
    for (_, end, kind), (after, _, _) in pairwise(_units(text)):
        token = bisect_right(ends, after)
        if token < len(offsets) and end <= offsets[token][0]:
            found.append(Place(token - 1, after, kind))
    return found


def episodes(spans: Iterable[Span], text: str) -> list[Span]:
    """The stretches of text that behaviours cover: spans that overlap, or have only white space between them, are one,
    which begins at its first character that is none and has the label of its first span."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and not text[merged[-1].end : span.start].strip():
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.label)
        else:
            space = len(text[span.start : span.end]) - len(text[span.start : span.end].lstrip())
            merged.append(Span(span.start + space, span.end, span.label))
    return merged


def onsets(text: str, offsets: Sequence[tuple[int, int]], spans: Iterable[Span]) -> list[Event]:
    """Where behaviours begin; one that begins with the completion, or in the middle of a token, has no onset."""
    at = {place.after: place for place in places(text, offsets)}
    return [
        Event(place.token, place.kind, episode.label)
        for episode in episodes(spans, text)
        if (place := at.get(episode.start)) is not None
    ]


def kind_of_end(text: str) -> str:
    """Kind of the place behind a text; empty where there is none."""
    return "".join(kind for _, _, kind in _units(text)[-1:])


def common_kinds(found: Iterable[Event]) -> frozenset[str]:
    """The kinds of at least COMMON of the onsets."""
    counts = Counter(event.kind for event in found if event.is_onset)
    return frozenset(kind for kind, n in counts.items() if n >= COMMON * counts.total())


def usual_kinds(texts: Iterable[str]) -> frozenset[str]:
    """Kinds of place at which a check could begin in texts that hold none: the ends of equations; where there are no
    equations, the ends of sentences."""
    of_equations: Counter[str] = Counter()
    of_sentences: Counter[str] = Counter()
    for text in texts:
        ends = {equation.end for equation in equations(text)}
        for _, end, kind in _units(text)[:-1]:
            of_equations[kind] += end in ends
            of_sentences[kind] += text[end - 1] in ENDS
    counts = of_equations if of_equations.total() else of_sentences
    return frozenset(kind for kind, n in counts.items() if n and n >= COMMON * counts.total())


def events(text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[Span], kinds: frozenset[str]) -> list[Event]:
    """The onsets of a text, and the forks of these kinds, in the order of their tokens. Between a fork and a behaviour
    there is a letter or digit: what is right before a behaviour, in it or at its end (also behind its full stop) is no
    fork."""
    busy = episodes(spans, text)
    starts = [episode.start for episode in busy]

    def is_free(character: int) -> bool:
        i = bisect_right(starts, character)
        before = [text[episode.end : character] for episode in busy[max(0, i - 1) : i]]
        after = [text[character : episode.start] for episode in busy[i : i + 1]]
        return all(any(map(str.isalnum, between)) for between in before + after)

    forks = [
        Event(place.token, place.kind, None)
        for place in places(text, offsets)
        if place.kind in kinds and is_free(place.after)
    ]
    return sorted([*onsets(text, offsets, spans), *forks], key=lambda event: event.token)


def _units(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind of the place behind it) of every unit."""
    units = [(m.start(), m.end(), _shape(m.group())) for m in _UNIT.finditer(text)]
    before = ["", *(f"{shape} " for _, _, shape in units)]
    return [(start, end, lead + shape) for lead, (start, end, shape) in zip(before, units, strict=False)]


def _shape(unit: str) -> str:
    if unit[-1].isdigit():
        return "0"
    return "a" if unit[0].isalpha() else unit[0]
