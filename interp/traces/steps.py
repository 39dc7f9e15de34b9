"""The steps of a text in prose: its sentences, cut where words such as "wait, let me check" interrupt one, without
those words: markers and neutral words of the lexicon, and `openers`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import regex

from interp.traces.lexicon import NEUTRAL, Lexicon, Span
from interp.traces.openers import ANYWHERE, LEADING, OPENING
from interp.traces.phrases import canonical
from interp.traces.sentences import ENDS, sentences

_WORD = regex.compile(r"\d+(?:[.,]\d+)*|\w+(?:['’\-‐‑]\w+)*|[-+/=<>^×÷−·]|(?<!\*)\*(?!\*)")
_PARTING = regex.compile(r"[,:](?=\s|$)|[—–]|(?<=\s)-(?=\s+[^\W\d])")


class Word(NamedTuple):
    """A word, number or sign at characters [start, end), in the form in which spellings are compared."""

    form: str
    start: int
    end: int


Step = tuple[Word, ...]


class _Clause(NamedTuple):
    words: Step
    """Without markers, neutral words and fillers."""
    opener: bool
    """Whether it only announces what follows."""
    begins: bool
    """Whether a marker begins it."""
    remarks: bool
    """Whether a marker or a neutral word does."""


class Said(NamedTuple):
    """A step, and how it is said."""

    step: Step
    remark: bool
    """Whether its sentence begins with a marker or a neutral word and holds no number: "However, it is not so."."""


def is_aside(said: Said, first: Step) -> bool:
    """Whether a step may be no step, but what is said between another one and its repetition: a remark of another form,
    with no word in the same place."""
    return said.remark and all(a.form != b.form for a, b in zip(said.step, first, strict=False))


def steps(text: str, lexicon: Lexicon) -> list[Said]:
    """The steps of a text, in order."""
    before, current, _ = _read(text, lexicon)
    return [said for said in (*before, current) if said.step]


def unfinished_step(text: str, lexicon: Lexicon) -> tuple[list[Step], Step]:
    """(steps before it that it may repeat, the last one first; the step in which the text ends), both empty where it
    ends between two. What so far is an opener ("It is on the") counts, as it may become a step."""
    before, current, opener = _read(text, lexicon)
    writing = opener or current.step
    if not writing or text[-1:] in ENDS:
        return [], ()
    *_, second, last = (Said((), False), Said((), False), *(said for said in before if said.step))
    candidates = [last.step, second.step] if is_aside(last, second.step) else [last.step]
    return [step for step in candidates if step], writing


def _read(text: str, lexicon: Lexicon) -> tuple[list[Said], Said, Step]:
    """(steps, the last one, the words of the opener after it)."""
    empty = _Empty(text, lexicon)
    found: list[Said] = []
    current: list[Word] = []
    opener: Step = ()
    remark = False

    def taken() -> Said:
        step = tuple(current)
        return Said(step, remark and not any(word.form[0].isdigit() for word in step))

    for start, end in sentences(text):
        found.append(taken())
        current, remark = [], False
        for clause in _clauses(text, start, end, empty):
            if clause.opener or clause.begins:
                found.append(taken())
                current = []
            remark = remark or clause.remarks
            opener = clause.words if clause.opener else ()
            if not clause.opener:
                current.extend(clause.words if current else _led(clause.words))
    return found, taken(), _led(opener)


class _Empty:
    """Which words of a text say nothing: markers and the neutral words that can replace them."""

    def __init__(self, text: str, lexicon: Lexicon):
        spans = [*lexicon.marker_spans(text), *lexicon.neutral_spans(text)]
        self._spans = sorted(spans, key=lambda span: span.start)
        self._ends = [span.end for span in self._spans]

    def at(self, start: int, end: int) -> Span | None:
        """The marker or neutral word that characters [start, end) are part of."""
        i = bisect_left(self._ends, end)
        return self._spans[i] if i < len(self._spans) and self._spans[i].start <= start else None


def _clauses(text: str, start: int, end: int, empty: _Empty) -> Iterator[_Clause]:
    asked = text[start:end].rstrip().endswith("?")
    edges = [m.start() for m in _PARTING.finditer(text, start, end)]
    for a, b in zip([start, *edges], [*edges, end], strict=True):
        a += a > start  # what parts two clauses is of neither
        every = [Word(canonical(m.group()), *m.span()) for m in _WORD.finditer(text, a, b)]
        spans = [empty.at(word.start, word.end) for word in every]
        words = [w for w, span in zip(every, spans, strict=True) if span is None and w.form not in ANYWHERE]
        first = spans[0] if spans else None
        begins = first is not None and first.label != NEUTRAL
        yield _Clause(tuple(words), _opens(words, asked), begins, first is not None)


def _opens(words: Sequence[Word], asked: bool) -> bool:
    """Whether all words are of the list; in a question one may be another, or a number ("Is the total right?")."""
    return sum(word.form not in OPENING for word in words) <= asked


def _led(words: Step) -> Step:
    """A step without the words and signs (a list's, a dash) that lead to it."""
    for i, word in enumerate(words):
        apart = word.form in "-*+=>" and all(word.end < after.start for after in words[i + 1 : i + 2])
        if not apart and word.form not in LEADING:
            return words[i:]
    return ()
