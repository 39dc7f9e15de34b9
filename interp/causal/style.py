"""Edits of the next token's distribution: the ban of markers, and the recomputation that only echoes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.traces.lexicon import Lexicon
from interp.traces.sampling import LogitEdit
from interp.traces.segment import equations
from interp.traces.tokens import decode, encode

TAIL = 24
"""Tokens of a row's end that are read to find a recomputation."""


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """The text of every id."""
    return [decode(tokenizer, [i]) for i in range(size)]


def spelled_by_one(pieces: Sequence[str], lexicon: Lexicon, special: Sequence[int]) -> list[int]:
    """Every id whose text, stripped, is a marker of one token, in whatever case."""
    return [i for i, piece in enumerate(pieces) if i not in set(special) and lexicon.is_marker(piece)]


def spelled_by_several(
    tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, single: Sequence[int]
) -> list[tuple[list[int], int]]:
    """(tokens before, last token) of every marker that takes several tokens, with and without a space and a capital."""
    banned, found = set(single), []
    for phrase in lexicon.class_of:
        for text in {phrase, phrase.capitalize(), f" {phrase}", f" {phrase.capitalize()}"}:
            ids = encode(tokenizer, text)
            if len(ids) > 1 and not banned & set(ids) and tokenizer.unk_token_id not in ids:
                found.append((ids[:-1], ids[-1]))
    return found


def ban(
    banned: Bool[Tensor, "copies vocab"],
    endings: Sequence[tuple[list[int], int]] = (),
    ends: Bool[Tensor, " copies"] | None = None,
) -> LogitEdit:
    """Forbid each copy its own ids; `endings` forbids the copies `ends` (None: those that ban anything) the last
    token of longer markers."""
    bans_any = banned.any(1) if ends is None else ends

    def edit(
        tokens: Int[Tensor, "batch time"], logits: Float[Tensor, "batch vocab"], copy: Int[Tensor, " batch"]
    ) -> None:
        logits.masked_fill_(banned.to(logits.device)[copy], -torch.inf)
        for before, last in endings:
            n = len(before)
            if tokens.shape[1] < n:
                continue
            prefix = torch.tensor(before, device=tokens.device)
            spelled = (tokens[:, -n:] == prefix).all(1) & bans_any.to(tokens.device)[copy]
            logits[spelled, last] = -torch.inf

    return edit


def control_bans(
    candidates: Sequence[int], draws: int, vocab: int, rng: np.random.Generator
) -> Bool[Tensor, "draws vocab"]:
    """Random halves of the candidate words: a ban of words that are as frequent as can be had, and no markers."""
    banned = torch.zeros(draws, vocab, dtype=torch.bool)
    size = max(1, len(candidates) // 2)
    for row in banned:
        row[torch.tensor(rng.choice(candidates, size=size, replace=False))] = True
    return banned


def control_words(pieces: Sequence[str], counts: Int[np.ndarray, " vocab"], banned: Sequence[int], n: int) -> list[int]:
    """The `n` most frequent ids of the rollouts that spell a whole word of two letters or more and are no markers."""
    forbidden, words = set(banned), [piece.strip() for piece in pieces]
    frequent = (i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] > 0 and i not in forbidden)
    return [i for i in frequent if len(words[i]) > 1 and words[i].isalpha()][:n]


class Recomputation:
    """Finds the rows that are about to write the result of an equation they have just worked.

    `echo` forces the earlier result, so that the words and the length stay and the work is gone. `redraw` lets the
    model write what it will, with fresh noise: the same positions touched, the function kept.
    """

    def __init__(self, pieces: Sequence[str]):
        self._pieces = list(pieces)
        self._equals = torch.tensor([piece.strip().endswith("=") for piece in pieces])
        self._number = {piece.strip(): i for i, piece in reversed(list(enumerate(pieces))) if piece.strip().isdigit()}

    def pending(self, tokens: Int[Tensor, " time"]) -> int | None:
        """The id of the earlier result if the row has just written the same operands and `=`, else None."""
        text = " ".join(self._pieces[i].strip() for i in tokens[-TAIL:].tolist())
        # A stand-in for the result to come lets the one parser of equations read the open one.
        found = equations(f"{text} 0")
        if len(found) < 2 or found[-1].end != len(text) + 2 or found[-2].operands != found[-1].operands:
            return None
        return self._number.get(found[-2].result)

    def rows(self, tokens: Int[Tensor, "batch time"], wanted: Bool[Tensor, " batch"]) -> list[tuple[int, int]]:
        """(row, id of the earlier result) of the wanted rows that are about to write a recomputation's result."""
        open_rows = (self._equals.to(tokens.device)[tokens[:, -1]] & wanted).nonzero().squeeze(1).tolist()
        pending = ((row, self.pending(tokens[row])) for row in open_rows)
        return [(row, earlier) for row, earlier in pending if earlier is not None]

    def echo(self, copies: Sequence[int]) -> LogitEdit:
        """Force the earlier result in these copies."""
        wanted = _member(copies)

        def edit(tokens: Tensor, logits: Tensor, copy: Tensor) -> None:
            for row, earlier in self.rows(tokens, wanted(copy)):
                logits[row] = -torch.inf
                logits[row, earlier] = 0.0

        return edit

    def redraw(self, copies: Sequence[int], seed: int) -> LogitEdit:
        """Sample the result with noise of its own in these copies."""
        wanted, noise = _member(copies), torch.Generator().manual_seed(seed)

        def edit(tokens: Tensor, logits: Tensor, copy: Tensor) -> None:
            for row, _ in self.rows(tokens, wanted(copy)):
                drawn = torch.multinomial(logits[row].softmax(0).cpu(), 1, generator=noise)
                logits[row] = -torch.inf
                logits[row, drawn] = 0.0

        return edit


def _member(copies: Sequence[int]) -> Callable[[Int[Tensor, " batch"]], Bool[Tensor, " batch"]]:
    chosen = torch.tensor(list(copies))
    return lambda copy: torch.isin(copy, chosen.to(copy.device))
