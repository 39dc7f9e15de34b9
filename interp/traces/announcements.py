"""How a model's markers stand in its texts: what is needed to write them where the model did not choose to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from interp.traces.lexicon import Lexicon

MOST = 12
"""Spellings that are kept."""
COMMON = 0.05
"""Share of the starts of steps that a joint must stand before."""
_BEHIND = re.compile(r"\s?[^\w\s]+")


@dataclass(frozen=True)
class Announcements:
    """Markers with their punctuation, and where a step begins."""

    phrases: tuple[str, ...]
    """Such as ` wait ,`, the most frequent first."""
    joints: tuple[str, ...]
    """What stands between the end of a step and the next step, such as `;`; empty where nothing does."""
    rate: float
    """Share of the starts of steps at which a phrase is written, so that there are as many markers as in the texts."""

    def spelled(self, encode: Callable[[str], list[int] | None]) -> Announcements | None:
        """With those phrases alone that a vocabulary can write; None where there are none."""
        phrases = tuple(phrase for phrase in self.phrases if encode(phrase))
        return replace(self, phrases=phrases) if phrases else None


def announcements(
    texts: Sequence[str], forks: Sequence[Sequence[int]], lexicon: Lexicon, offsets: Sequence[Sequence[tuple[int, int]]]
) -> Announcements | None:
    """Read off a model's untouched texts; None where they hold no marker, or no step begins after a fork. A marker that
    begins a text is left out: it is spelled as none that follows something.

    Args:
        forks: of every text, the last tokens of the steps after which no behaviour begins.
        offsets: of every text, the characters of its tokens.
    """
    spoken = Counter(
        _spoken(text, span.start, span.end) for text in texts for span in lexicon.marker_spans(text) if span.start
    )
    joints = Counter(
        _joint(text, where[first][1])
        for text, tokens, where in zip(texts, forks, offsets, strict=True)
        for first, _ in pairwise(tokens)
    )
    if not spoken or not joints:
        return None
    usual = tuple(joint for joint, n in joints.most_common() if n >= COMMON * joints.total())
    return Announcements(
        phrases=tuple(phrase for phrase, _ in spoken.most_common(MOST)),
        joints=usual,
        rate=min(1.0, spoken.total() / sum(joints[joint] for joint in usual)),
    )


def _spoken(text: str, start: int, end: int) -> str:
    """A marker with the space before it and the punctuation behind it."""
    behind = _BEHIND.match(text, end)
    return text[start - text[:start].endswith(" ") : behind.end() if behind else end]


def _joint(text: str, end: int) -> str:
    """What follows a step that ends at this character, up to the next letter or digit, without space."""
    rest = text[end:]
    return rest[: next((i for i, c in enumerate(rest) if c.isalnum()), len(rest))].strip()
