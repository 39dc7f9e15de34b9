"""From character spans to token labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interp.traces.lexicon import Span
from interp.traces.tokens import decode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKER, INSIDE, BEFORE, ELSEWHERE, NONE = "marker", "inside", "before", "elsewhere", "none"
"""A token's place: at a marker, in the behaviour but not at a marker, shortly before it, elsewhere in the completion,
or not in a labelled completion."""
NEAR = 16
"""Tokens before a behaviour that are `before` it and not elsewhere."""


def token_offsets(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Characters [start, end) of each token in the decoded text, from decoding the last few tokens of growing prefixes.

    Works for any tokenizer, also for byte-level pieces that are part of a character: such a piece gets the span that
    its neighbours leave.
    """
    offsets, done = [], 0
    for i in range(len(ids)):
        # A few tokens decide spaces and split characters.
        start = max(0, i - 7)
        before = decode(tokenizer, ids[start:i])
        grown = decode(tokenizer, ids[start : i + 1])
        length = max(0, len(grown) - len(before))
        # A piece that continues a split character covers that character too.
        first = done - 1 if done and before.endswith("\ufffd") else done
        offsets.append((first, done + length))
        done += length
    return offsets


def covered(offsets: Sequence[tuple[int, int]], spans: Sequence[Span], label: str | None = None) -> list[bool]:
    """Whether each token touches a span (of one label, if given)."""
    wanted = [s for s in spans if label is None or s.label == label]
    return [any(start < s.end and s.start < end for s in wanted) for start, end in offsets]


def positions(behaviour: Sequence[bool], marker: Sequence[bool], near: int = NEAR) -> list[str]:
    """Per token: `marker`, `inside` (the behaviour but not a marker), `before` (within `near` tokens), `elsewhere`."""
    labels, distance = [ELSEWHERE] * len(behaviour), near + 1
    for i in reversed(range(len(behaviour))):
        distance = 0 if behaviour[i] else distance + 1
        if marker[i]:
            labels[i] = MARKER
        elif behaviour[i]:
            labels[i] = INSIDE
        elif distance <= near:
            labels[i] = BEFORE
    return labels
