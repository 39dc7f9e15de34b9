"""Where a text reflects or verifies: by construction where equations show it, by sentence rules elsewhere."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from interp.names import REFLECTION, VERIFICATION
from interp.traces.equations import recomputations
from interp.traces.lexicon import Lexicon, Span
from interp.traces.redone import redone
from interp.traces.sentences import ENDS, sentences

REACH = 2
"""Sentences after a verification pivot in which the step that it announces may be."""


def by_construction(text: str) -> list[Span]:
    """Verification: an equation recomputed. Reflection: the text between the equation and its recomputation."""
    spans = []
    for first, again in recomputations(text):
        between = text[first.end : again.start]
        if between.strip():  # a token begins with its space, which would draw the next equation in
            spans.append(Span(first.end, first.end + len(between.rstrip()), REFLECTION))
        spans.append(Span(again.start, again.end, VERIFICATION))
    return spans


def by_sentences(text: str, lexicon: Lexicon, *, recomputed: bool = True) -> list[Span]:
    """Verification: a step that is worked again (`redone`, left out unless `recomputed`), and the sentence of a
    verification pivot after which none is, in that sentence or the REACH ones after it: where the work itself is
    seen, the words that announce it are not labelled verification. Reflection: the words between a step that is worked
    again and the step before it, whatever they are, and the sentence of a realization pivot elsewhere. In the order
    of their beginnings. Such labels follow the lexicon and share its errors; without `recomputed` they follow nothing
    else."""
    steps = redone(text, lexicon) if recomputed else []
    again = [Span(*step.again, VERIFICATION) for step in steps]
    leads = [lead for step in steps if (lead := _lead(text, step.announced, step.again[0])) is not None]
    spans, parts = [*again, *leads], sentences(text)
    begins, said = [start for start, _ in parts], [i for i, (a, b) in enumerate(parts) if _says(text[a:b])]
    for marker in lexicon.marker_spans(text):  # of the whole text, as a phrase may continue after a line break
        at = bisect_right(begins, marker.start) - 1
        if marker.label == "realization" and not any(lead.start <= marker.start < lead.end for lead in leads):
            spans.append(Span(*parts[at], REFLECTION))
        elif marker.label == "verification":
            after = bisect_right(said, at)
            last = [at, *said[after : after + REACH]][-1]
            step = bisect_left(again, marker.start, key=lambda span: span.start)
            if step == len(again) or again[step].start >= parts[last][1]:
                spans.append(Span(*parts[at], VERIFICATION))
    return sorted(dict.fromkeys(spans), key=lambda span: (span.start, span.label != VERIFICATION, span.end))


def _lead(text: str, start: int, end: int) -> Span | None:
    """What announces a step: characters [start, end) without the stop of the sentence before and the space at either
    end, None where no letter or digit is among them."""
    said = text[start:end].rstrip()
    begins = start + len(said) - len(said.lstrip(ENDS + " \t"))
    return Span(begins, start + len(said), REFLECTION) if _says(said) else None


def _says(sentence: str) -> bool:
    return any(map(str.isalnum, sentence))


def repetition(ids: list[int], n: int = 4) -> float:
    """Share of n-grams that occurred before in the same text, 0 where there are none."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
