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
    """Every marker becomes a neutral word: the sentence goes on, and no marker is left."""
    return _replace(text, lexicon, lambda span, said: _bare(rng.choice(voice.neutral)))


def synonym(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """Every marker becomes another one, of its class where that has another: the style is kept, the token changed."""

    def other(span: Span, said: str) -> str:
        others = [p for p in sorted(_spoken(voice)) if p != canonical(said)]
        return rng.choice([p for p in others if p in lexicon.markers[span.label]] or others)

    return _replace(text, lexicon, other)


def filler(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """Every marker becomes one and the same neutral word, as often as it has words: its place is kept, and nothing is
    said there."""
    word = _bare(voice.neutral[0])
    return _replace(text, lexicon, lambda span, said: " ".join([word] * len(said.split())))


def insertion(text: str, lexicon: Lexicon, voice: Voice, rng: random.Random) -> str:
    """The markers are taken from where they stand and set before random steps: the tokens are kept, what they
    announce is not."""
    spans = lexicon.marker_spans(text)
    said = [text[span.start : span.end] for span in spans]
    for span in reversed(spans):
        end = span.end + len(re.match(_AFTER_MARKER, text[span.end :]).group())  # type: ignore[union-attr]
        text = text[: span.start] + text[end:]
    body, mark, answer = text.partition(voice.ending.split("{answer}")[0])
    steps = body.split(voice.joint)
    for word in said:
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
        said = text[span.start : span.end]
        new = choose(span, said)
        text = text[: span.start] + (new.capitalize() if said[:1].isupper() else new) + text[span.end :]
    return text


def _spoken(voice: Voice) -> set[str]:
    """What the world's markers are in the lexicon's spelling."""
    return {_bare(word) for word in voice.markers}


def _bare(word: str) -> str:
    return word.rstrip(".:?").lower()
