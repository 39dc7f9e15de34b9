"""Steps that are worked again: an equation with the same operands, or a sentence with the same words up to its result.

In prose a step counts as redone where it follows the step that it repeats, but for sentences that only open it, and
where both agree in every word before the result, three words or more (or two and a number), and the result is at most
a third of each. A sentence of another form between them that begins with a marker or a neutral word and holds no
number is taken for one that opens. Two steps of one template differ earlier ("gives the ball to Ann", "gives the hat
to Ben"); a sentence that reports a new state in the old words ("The total is now 12.", "The total is now 15.") cannot
be told from one that is worked again.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from interp.traces.equations import Equation, equations, recomputed, unfinished
from interp.traces.lexicon import Lexicon
from interp.traces.phrases import canonical
from interp.traces.repeats import rest_of_equation, rest_of_step, result_at
from interp.traces.sentences import tail
from interp.traces.steps import Said, Step, is_aside, steps, unfinished_step

TAIL = 800
"""Last characters of a text in which `pending` looks for both steps."""
NEAR = 40
"""Last characters among which an equals sign is near the end."""
_WRITING = re.compile(
    r"(?:=|\b(?:is|to|equals?|makes?|gives?)\b)(?:[\s$*&({}€£`]|\\[a-z]+|\\.)*[-−]?[\d.,]*$", re.IGNORECASE
)
_RUN = re.compile(r"\d+|[^\W\d]+")


@dataclass(frozen=True)
class Redone:
    """A step and its repetition: characters [start, end) of each, without markers, openers and full stops."""

    first: tuple[int, int]
    again: tuple[int, int]
    first_result: str
    """What follows the shared part, in prose as it is written; of an equation, the number."""
    again_result: str
    result_at: tuple[int, int]
    """First characters of both results as they are written."""
    announced: int
    """Where what announces the repetition may begin: behind the step before it."""


def redone(text: str, lexicon: Lexicon) -> list[Redone]:
    """Every step of a text that is worked again, in order. Of a third working, the second is the first."""
    worked, every = equations(text), steps(text, lexicon)
    ends = [said.step[-1].end for said in every]
    found = [
        Redone((a.start, a.end), (b.start, b.end), a.result, b.result, (a.shown, b.shown), _behind(a, b, ends))
        for a, b in recomputed(worked)
    ]
    for first, again, at in _repeated(every):
        if not _touches(first, worked) and not _touches(again, worked):
            first_result, again_result = (text[step[at].start : step[-1].end] for step in (first, again))
            spans = (first[0].start, first[-1].end), (again[0].start, again[-1].end)
            results = first_result, again_result, (first[at].start, again[at].start)
            found.append(Redone(*spans, *results, first[-1].end))
    return sorted(found, key=lambda step: step.again)


def _repeated(every: Sequence[Said]) -> Iterator[tuple[Step, Step, int]]:
    """(a step, the next one, the first word of their results) where the second repeats the first, with an aside between
    them or without."""
    for i, said in enumerate(every[1:], 1):
        before = every[i - 1]
        at = result_at(before.step, said.step)
        if at is None and i > 1 and is_aside(before, every[i - 2].step):
            before = every[i - 2]
            at = result_at(before.step, said.step)
        if at is not None:
            yield before.step, said.step, at


def _behind(first: Equation, again: Equation, ends: Sequence[int]) -> int:
    """The last end of a step between an equation and its repetition; that of the equation where there is none."""
    return max([first.end, *ends[: bisect_right(ends, again.start)][-1:]])


def pending(text: str, lexicon: Lexicon) -> str | None:
    """What must come next for a step to be redone with the earlier result: the rest of the first working, up to the
    end of its result, as it was written. None unless the text ends where the result of a repeated step begins, or
    inside it. In prose that is everywhere in the last third of the first working, if all before it has been repeated:
    whatever follows there, `redone` takes for the result. Reads the last TAIL characters only."""
    text = tail(text, TAIL)
    opened = unfinished(text) if _WRITING.search(text[-NEAR:]) else None
    if opened is not None:
        return rest_of_equation(text, opened)
    earlier, writing = unfinished_step(text, lexicon) if _may_repeat(text, lexicon) else ([], ())
    rests = ((first, rest_of_step(text, first, writing)) for first in earlier)
    first, rest = next((pair for pair in rests if pair[1] is not None), ((), None))
    worked = equations(text) if rest is not None else []
    return None if rest is None or _touches(first, worked) or _touches(writing, worked) else rest


def may_be_pending(text: str) -> bool:
    """Whether `pending` may be other than None, in a small part of its time: an equals sign is near the end, or two
    of the last three words (the last perhaps half written) have occurred before. Where a marker of two words or more
    stands right before the result, it says no."""
    end = text[-TAIL:].lower()
    if _WRITING.search(end[-NEAR:]):
        return True
    last = list(_RUN.finditer(end, max(0, len(end) - NEAR)))[-3:]
    return sum(end.find(word.group()) < word.start() for word in last) >= 2


def _may_repeat(text: str, lexicon: Lexicon) -> bool:
    """Whether the last three words (the last perhaps half written) have occurred together before, but for words of
    the lexicon, which may be put between them."""
    spoken, begun = _spoken(tuple(lexicon.class_of), lexicon.neutral)
    said = _RUN.findall(text.lower())
    last = [word for word in said[-1:] if word not in begun]
    before = [word not in spoken for word in said[:-1]]
    sought, everything = (
        "".join(f" {word}" for word in (*itertools.compress(said[i:-1], before[i:]), *last))
        for i in (max(0, len(before) - 2), 0)
    )
    return not sought or everything.find(sought) < len(everything) - len(sought)


@cache
def _spoken(markers: tuple[str, ...], neutral: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """(the runs of letters or digits in markers and neutral words, all their beginnings)."""
    runs = frozenset(_RUN.findall(" ".join((*markers, *map(canonical, neutral)))))
    return runs, frozenset(run[:length] for run in runs for length in range(1, len(run) + 1))


def _touches(step: Step, worked: Sequence[Equation]) -> bool:
    """Whether an equation is in the step, which then speaks for it."""
    i = bisect_right(worked, step[0].start, key=lambda equation: equation.end)
    return i < len(worked) and worked[i].start < step[-1].end
