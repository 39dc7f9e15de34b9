"""Where a text reflects or verifies: by construction where equations show it, by sentence rules elsewhere."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from interp.names import REFLECTION, VERIFICATION
from interp.traces.lexicon import Lexicon, Span

_NUMBER = r"-?\d+(?:\.\d+)?"
_EQUATION = re.compile(rf"(?<![\w.])(?<!\d,)({_NUMBER})\s*([-+*/×÷])\s*({_NUMBER})\s*=\s*({_NUMBER})")
_LONGER = re.compile(r"[\d)]\s*[-+*/×÷]\s*$")
"""Text before the last two operands of a longer sum."""
_LOOK_BACK = 32
"""Characters in which that is looked for, so that long texts take no longer than their length."""
_STOP, _ANSWER = "[.!?;…。！？；\\n]", "####"
_SENTENCE = re.compile(rf"(?:{_ANSWER})?(?:(?!{_STOP}|{_ANSWER}).|(?<=\d)\.(?=\d))+{_STOP}*|{_STOP}+|{_ANSWER}")


@dataclass(frozen=True)
class Equation:
    """`a op b = result` at characters [start, end)."""

    start: int
    end: int
    a: str
    op: str
    b: str
    result: str

    @property
    def operands(self) -> tuple[str, str, str]:
        return self.a, self.op, self.b


def equations(text: str) -> list[Equation]:
    """Every equation of a text, in order."""
    return [
        Equation(m.start(), m.end(), *m.groups())
        for m in _EQUATION.finditer(text)
        if not _LONGER.search(text, max(0, m.start() - _LOOK_BACK), m.start())
    ]


def recomputations(text: str) -> list[tuple[Equation, Equation]]:
    """Pairs of neighbouring equations with the same operands, whatever the words between them."""
    found = equations(text)
    return [(first, again) for first, again in itertools.pairwise(found) if first.operands == again.operands]


def by_construction(text: str) -> list[Span]:
    """Verification: an equation recomputed. Reflection: the text between the equation and its recomputation."""
    spans = []
    for first, again in recomputations(text):
        between = text[first.end : again.start]
        if between.strip():  # a token begins with its space, which would draw the next equation in
            spans.append(Span(first.end, first.end + len(between.rstrip()), REFLECTION))
        spans.append(Span(again.start, again.end, VERIFICATION))
    return spans


def sentences(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of every sentence, which tile the text: one ends with full stops, marks of exclamation
    or question, semicolons or line breaks, but not with the point of a decimal; `####` begins one. The point of an
    abbreviation ends one, wrongly."""
    return [match.span() for match in _SENTENCE.finditer(text)]


def by_sentences(text: str, lexicon: Lexicon, *, recomputed: bool = True) -> list[Span]:
    """Sentences in which a pivot begins: verification ones, or, unless `recomputed` is off, ones that work an earlier
    equation again, verify; ones with a realization pivot reflect. Such labels follow the lexicon and share its
    errors; without `recomputed` they follow nothing else."""
    repeated = [again for _, again in recomputations(text)] if recomputed else []
    markers = lexicon.marker_spans(text)  # of the whole text, as a phrase may continue after a line break
    spans = []
    for start, end in sentences(text):
        classes = {span.label for span in markers if start <= span.start < end}
        if "verification" in classes or any(start <= again.start < end for again in repeated):
            spans.append(Span(start, end, VERIFICATION))
        if "realization" in classes:
            spans.append(Span(start, end, REFLECTION))
    return spans


def repetition(ids: list[int], n: int = 4) -> float:
    """Share of n-grams that occurred before in the same text, 0 where there are none."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
