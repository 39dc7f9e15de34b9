"""The four stages of a trace (Lippmann & Yang 2025, arXiv 2504.01738), by rules on its sentences.

They are rules and share the lexicon's errors: a stage is what a sentence looks like, not what it does. In order:

1. *synthesis*: states the answer (`####`, `\\boxed`);
2. *verification*: holds a verification pivot, or works the last step again (`redone`);
3. *synthesis*: holds an integration pivot, or words that conclude ("final answer", "in summary");
4. *framing*: comes before the first equation and the first pivot of realization or exploration;
5. *exploration*: all else, the working itself included.

A sentence without a letter or digit goes with the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from interp.names import VERIFICATION
from interp.traces.equations import equations
from interp.traces.lexicon import Lexicon, Span
from interp.traces.redone import redone
from interp.traces.sentences import sentences

FRAMING, EXPLORATION, SYNTHESIS = "framing", "exploration", "synthesis"
PHASES: tuple[str, ...] = (FRAMING, EXPLORATION, VERIFICATION, SYNTHESIS)
_STATED = re.compile(r"####\s*[-$\\\d]|\\boxed\b")  # and no heading of the fourth level
_CONCLUDED = re.compile(
    r"\b(?:final answer|answer is|in conclusion|in summary|to (?:summari[sz]e|sum up|conclude))\b", re.IGNORECASE
)


def stage_spans(text: str, lexicon: Lexicon) -> list[Span]:
    """The stages of a text in order, neighbouring sentences of one stage together; they tile the text."""
    again = [step.again[0] for step in redone(text, lexicon)]
    worked, markers = [equation.start for equation in equations(text)], lexicon.marker_spans(text)
    spans: list[Span] = []
    stage = FRAMING
    for start, end in sentences(text):
        classes = {span.label for span in markers if start <= span.start < end}
        if any(start <= at < end for at in again):
            classes.add(VERIFICATION)
        works = any(start <= at < end for at in worked)
        stage = _stage(text[start:end], classes, works, stage)
        if spans and spans[-1].label == stage:
            start = spans.pop().start
        spans.append(Span(start, end, stage))
    return spans


def _stage(sentence: str, classes: set[str], works: bool, before: str) -> str:
    if _STATED.search(sentence):
        return SYNTHESIS
    if not re.search(r"\w", sentence):
        return before
    if VERIFICATION in classes:
        return VERIFICATION
    if "integration" in classes or _CONCLUDED.search(sentence):
        return SYNTHESIS
    if before == FRAMING and not works and not classes & {"realization", "exploration"}:
        return FRAMING
    return EXPLORATION


def stage_lengths(spans: Sequence[Span], offsets: Sequence[tuple[int, int]] | None = None) -> dict[str, int]:
    """Tokens of every stage, from the tokens' characters [start, end) (a token is where its first character is);
    without `offsets`, characters. Shares are ratios of these."""
    if offsets is None:
        return {stage: sum(s.end - s.start for s in spans if s.label == stage) for stage in PHASES}
    lengths, at = dict.fromkeys(PHASES, 0), 0
    for start, _ in offsets:
        while at + 1 < len(spans) and start >= spans[at].end:
            at += 1
        if spans:
            lengths[spans[at].label] += 1
    return lengths
