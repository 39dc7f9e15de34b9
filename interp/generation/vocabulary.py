"""The text of every token as it stands inside a text, which edits of a text match against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from interp.traces.tokens import decode, encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BEFORE = "a"
"""A text after which pieces are read: decoders drop or add the space of a first word."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer with the text of each of its ids."""

    tokenizer: PreTrainedTokenizerBase
    pieces: tuple[str, ...]
    """Text that each id adds to a text: " wait" where its decoder or the token itself puts a space before the word. A
    part of a character is U+FFFD; special tokens add nothing."""

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, ids: list[int]) -> str:
        """The pieces of some ids, joined."""
        return "".join(map(self.pieces.__getitem__, ids))

    def encode(self, text: str) -> list[int] | None:
        """Ids that add exactly `text` to a text, None where the vocabulary has none."""
        for candidate in (text, text.lstrip()):
            ids = encode(self.tokenizer, candidate)
            if ids and self.text(ids) == text:
                return ids
        return self._by_pieces(text)

    def _by_pieces(self, text: str) -> list[int] | None:
        """The longest pieces one after the other: some tokenizers put a space before whatever they are given."""
        ids: list[int] = []
        while text:
            i = self.longest(text)
            if i is None:
                return None
            ids.append(i)
            text = text[len(self.pieces[i]) :]
        return ids or None

    def longest(self, text: str) -> int | None:
        """The id that spells the longest beginning of `text`, None where no id spells one."""
        starts = (text[:length] for length in range(min(len(text), self._widest), 0, -1))
        return next((self._id_of[start] for start in starts if start in self._id_of), None)

    @cached_property
    def _widest(self) -> int:
        return max(map(len, self.pieces), default=0)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {piece: i for i, piece in reversed(list(enumerate(self.pieces))) if piece}


def vocabulary_size(model: PreTrainedModel) -> int:
    """Number of ids that a model can write, those that its tokenizer does not know included."""
    head = model.get_output_embeddings()
    return int(head.weight.shape[0]) if head is not None else int(model.config.get_text_config().vocab_size)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """The vocabulary of `size` ids; ids that the tokenizer does not know add no text."""
    first = encode(tokenizer, BEFORE)
    known = [i for i in range(size) if i not in set(tokenizer.all_special_ids)] if first else []
    if not first or decode(tokenizer, first).strip() != BEFORE or tokenizer.unk_token_id in first:
        first = next(([i] for i in range(size) if decode(tokenizer, [i]).strip().isalnum()), [0])
        known = [i for i in range(size) if i not in set(tokenizer.all_special_ids)]
    start = len(decode(tokenizer, first))
    pieces = [""] * size
    for i, text in zip(known, tokenizer.batch_decode([[*first, i] for i in known]), strict=True):
        pieces[i] = str(text)[start:]
    return Vocabulary(tokenizer, tuple(pieces))
