"""Texts whose markers become neutral words, and the tokens that both versions have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from interp.activations.texts import Text
from interp.features.falsify import Paraphrase
from interp.traces.labels import covered, token_offsets
from interp.traces.lexicon import Lexicon, Span
from interp.traces.tokens import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKERS = 16
"""The most frequent spellings of markers that are put into other text."""


def marker_ids(rows: Iterable[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Markers as the rows of `traces.parquet` spell them, the most frequent first: the tokens that touch one."""
    counts: Counter[tuple[int, ...]] = Counter()
    for row in rows:
        ids, spans = row["completion_ids"], row["marker_spans"]
        offsets = token_offsets(tokenizer, ids) if spans else []
        for span in spans:
            counts[tuple(i for i, yes in zip(ids, covered(offsets, [Span(**span)]), strict=True) if yes)] += 1
    return [list(phrase) for phrase, _ in counts.most_common(MARKERS) if phrase]


def paraphrases(
    rows: Iterable[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, most: int
) -> list[Paraphrase]:
    """At most `most` texts that hold a behaviour and a marker: as they are, with the lexicon's neutral words in turn in
    the markers' place, and the pairs of positions that hold the same token inside the behaviour, off the markers. A
    text that does not encode to the tokens that were sampled is left out."""
    found: list[Paraphrase] = []
    for row in rows:
        if len(found) == most:
            break
        spans = [Span(**span) for span in row["marker_spans"]]
        if not spans or not row["behaviour_spans"] or not lexicon.neutral:
            continue
        text, ids = row["text"], row["completion_ids"]
        other, moved = _replaced(text, spans, lexicon.neutral)
        new = encode(tokenizer, other)
        if encode(tokenizer, text) != ids:
            continue
        inside = [Span(**span) for span in row["behaviour_spans"]]
        pairs = _common(ids, token_offsets(tokenizer, ids), new, token_offsets(tokenizer, new), spans, inside, moved)
        if pairs:
            begin = len(row["prompt_ids"])
            one, two = (
                Text([*row["prompt_ids"], *completion], row["model"], row["problem"], begin)
                for completion in (ids, new)
            )
            found.append((one, two, [(begin + i, begin + j) for i, j in pairs]))
    return found


def _replaced(text: str, spans: Sequence[Span], words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """(the text with a word for each span, for each span its end and how far what follows has moved)."""
    parts, last, moved, shift = [], 0, [], 0
    for i, span in enumerate(spans):
        word = words[i % len(words)]
        word = word.capitalize() if text[span.start].isupper() else word
        parts += [text[last : span.start], word]
        last, shift = span.end, shift + len(word) - (span.end - span.start)
        moved.append((span.end, shift))
    return "".join([*parts, text[last:]]), moved


def _common(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    new: Sequence[int],
    new_offsets: Sequence[tuple[int, int]],
    markers: Sequence[Span],
    inside: Sequence[Span],
    moved: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Tokens inside a behaviour and off the markers, beside the same tokens of the paraphrase."""
    at = {place: j for j, place in enumerate(new_offsets)}
    pairs = []
    for i, (busy, marked) in enumerate(zip(covered(offsets, inside), covered(offsets, markers), strict=True)):
        start, end = offsets[i]
        shift = next((by for after, by in reversed(moved) if after <= start), 0)
        j = at.get((start + shift, end + shift))
        if busy and not marked and j is not None and new[j] == ids[i]:
            pairs.append((i, j))
    return pairs
