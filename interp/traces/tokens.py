"""Text to tokens and back: no special token is ever added, and an id of 0 is an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
