"""Text to token ids and back. No special token is ever added, and an id of 0 counts as an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARED = 32
"""Least number of tokens of a shared beginning (worked examples, a system message) that is read once for all texts."""


def shared_beginning(rows: Sequence[list[int]], most: int | None = None) -> int:
    """Number of tokens that all rows begin with, at most `most` and without the last token of any row; 0 below SHARED,
    where reading them once saves nothing."""
    limit = min(map(len, rows)) - 1
    limit = limit if most is None else min(limit, most)
    first, last = min(rows), max(rows)  # in sorted order these two share the shortest beginning
    shared = next((i for i in range(limit) if first[i] != last[i]), limit)
    return shared if shared >= SHARED else 0


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text, without special tokens before or after it."""
    return tokenizer.encode(text, add_special_tokens=False)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of some token ids, special tokens included."""
    return cast(str, tokenizer.decode(list(ids)))


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's end token; a model may have further ones (`models.trio.read_end_ids`)."""
    return cast(int, tokenizer.eos_token_id)


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the padding token where there is one, else the end token."""
    return end_id(tokenizer) if tokenizer.pad_token_id is None else cast(int, tokenizer.pad_token_id)
