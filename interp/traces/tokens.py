"""Text to tokens and back: no special token is ever added, and an id of 0 is an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARED = 32
"""Tokens from which a beginning that several texts share (worked examples, a system message) is read once for all."""


def shared_beginning(rows: Sequence[list[int]], most: int | None = None) -> int:
    """Tokens that all rows begin with, at most `most`, the last token of each left out; 0 where they are so few that
    reading them apart saves nothing."""
    limit = min(map(len, rows)) - 1
    limit = limit if most is None else min(limit, most)
    first, last = min(rows), max(rows)  # in order, these two differ soonest
    shared = next((i for i in range(limit) if first[i] != last[i]), limit)
    return shared if shared >= SHARED else 0


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return tokenizer.encode(text, add_special_tokens=False)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of some ids."""
    return cast(str, tokenizer.decode(list(ids)))


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends a text."""
    return cast(int, tokenizer.eos_token_id)


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills: the padding token where there is one, else the end token."""
    return end_id(tokenizer) if tokenizer.pad_token_id is None else cast(int, tokenizer.pad_token_id)
