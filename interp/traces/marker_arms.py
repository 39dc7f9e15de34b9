"""The same trace with its markers changed: reworded, swapped, moved, or filled."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from interp.traces.lexicon import Lexicon, Span
from interp.traces.phrases import canonical
from interp.traces.voice import Voice

Change = Callable[[str, Lexicon, Voice, random.Random], str]
_AFTER_MARKER = r"(?:\s*[,.:!?…])?\s*"


def paraphrase(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """Every marker is replaced by a neutral word; the rest of the sentence stays."""
    return _replace(text, lexicon, lambda span, marker: _bare(rng.choice(voice.neutral)))


def synonym(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """Every marker is replaced by another one, of its class where that has another: style kept, token changed."""

    def other(span: Span, marker: str) -> str:
        others = [p for p in sorted(_spoken(voice)) if p != canonical(marker)]
        return rng.choice([p for p in others if p in lexicon.markers[span.label]] or others)

    return _replace(text, lexicon, other)


def filler(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """Every marker is replaced by one and the same neutral word, repeated for each of its words: length kept, meaning
    removed."""
    word = _bare(voice.neutral[0])
    return _replace(text, lexicon, lambda span, marker: " ".join([word] * len(marker.split())))


def insertion(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """The markers are moved to random steps: tokens kept, function removed."""
    spans = lexicon.marker_spans(text)
    markers = [text[span.start : span.end] for span in spans]
    for span in reversed(spans):
        end = span.end + len(re.match(_AFTER_MARKER, text[span.end :]).group())  # type: ignore[union-attr]
        text = text[: span.start] + text[end:]
    body, mark, answer = text.partition(voice.ending.split("{answer}")[0])
    steps = body.split(voice.joint)
    for word in markers:
        i = rng.randrange(len(steps))
        steps[i] = voice.at(word, steps[i])
    return voice.joint.join(steps) + mark + answer


MARKER_ARMS: dict[str, Change] = {
    "paraphrase": paraphrase,
    "synonym": synonym,
    "insertion": insertion,
    "filler": filler,
}


def _replace(text: str, lexicon: Lexicon, choose: Callable[[Span, str], str]) -> str:
    for span in reversed(lexicon.marker_spans(text)):
        marker = text[span.start : span.end]
        new = choose(span, marker)
        text = text[: span.start] + (new.capitalize() if marker[:1].isupper() else new) + text[span.end :]
    return text


def _spoken(voice: Voice) -> set[str]:
    """What the world's markers are in the lexicon's spelling."""
    return {_bare(word) for word in voice.markers}


def _bare(word: str) -> str:
    return word.rstrip(".:?").lower()
