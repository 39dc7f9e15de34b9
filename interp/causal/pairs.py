"""Counterfactual pairs: the same trace with a marker (clean) and with a neutral word of as many tokens (corrupt)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from transformers import PreTrainedTokenizerBase

from interp.traces.equations import equations
from interp.traces.labels import covered, token_offsets
from interp.traces.lexicon import Lexicon, Span
from interp.traces.tokens import decode, encode

CONTINUATION = 8
"""Tokens after the marker whose log-probability is measured, where no equation follows."""
REACH = 16
"""An equation that ends within this many tokens after the marker is measured to its end."""


@dataclass(frozen=True)
class Pair:
    """Two token sequences that differ at `changed` only, and the tokens after them that are measured."""

    problem: str
    clean: list[int]
    corrupt: list[int]
    changed: list[int]
    """Positions of the marker."""
    start: int
    """First position of the measured continuation, right after the marker."""


def make_pairs(traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, n: int) -> list[Pair]:
    """Pairs from a model's right answers that hold a marker, at most one a problem, from the trace's first marker."""
    pairs = []
    for row in traces.filter(pl.col("correct")).iter_rows(named=True):
        pair = _pair(row, tokenizer, lexicon)
        if pair is not None:
            pairs.append(pair)
        if len(pairs) == n:
            break
    return pairs


def _pair(row: dict, tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon) -> Pair | None:
    if not row["marker_spans"]:
        return None
    marker, ids = Span(**row["marker_spans"][0]), row["completion_ids"]
    offsets = token_offsets(tokenizer, ids)
    changed = [i for i, hit in enumerate(covered(offsets, [marker])) if hit]
    end = _end(row["text"], offsets, changed[-1] + 1) if changed else 0
    filler = _filler(row["text"][marker.start : marker.end], [ids[i] for i in changed], tokenizer, lexicon)
    if filler is None or end <= changed[-1] + 1:
        return None
    offset, clean = len(row["prompt_ids"]), row["prompt_ids"] + ids[:end]
    corrupt = list(clean)
    for i, token in zip(changed, filler, strict=True):
        corrupt[offset + i] = token
    return Pair(row["problem"], clean, corrupt, [offset + i for i in changed], offset + changed[-1] + 1)


def _end(text: str, offsets: Sequence[tuple[int, int]], start: int) -> int:
    """One past the last token measured."""
    for equation in equations(text):
        inside = [i for i, (a, _) in enumerate(offsets) if equation.start <= a < equation.end]
        if inside and inside[0] >= start:
            return inside[-1] + 1 if inside[-1] < start + REACH else min(start + CONTINUATION, len(offsets))
    return min(start + CONTINUATION, len(offsets))


def _filler(marker: str, ids: list[int], tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon) -> list[int] | None:
    """Tokens of neutral words as long as the marker's, with its leading space and capital; None where none fits."""
    spaced = decode(tokenizer, ids).startswith(" ")
    for word in lexicon.neutral:
        for text in (word, f"{word} {word}", f"{word} {word} {word}"):
            text = text.capitalize() if marker[:1].isupper() else text
            encoded = encode(tokenizer, f" {text}" if spaced else text)
            if len(encoded) == len(ids) and tokenizer.unk_token_id not in encoded:
                return encoded
    return None
