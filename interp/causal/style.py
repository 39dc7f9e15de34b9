"""Edits of the next token's logits: the ban of markers, and recomputations that echo the earlier result."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.generation.sampling import LogitEdit
from interp.traces.lexicon import Lexicon
from interp.traces.segment import equations
from interp.traces.tokens import decode, encode, pad_id

TAIL = 64
"""Last tokens of a row that are searched for a recomputation."""
RESULT = 8
"""Most tokens of a result, its equals sign included."""
_BEGUN = re.compile(r"=(\s*-?\d*\.?\d*)$")
"""An equals sign and the part of its result that is written."""
_PART = re.compile(r"\s*-?\d*\.?\d*")


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """The text of every id."""
    return [decode(tokenizer, [i]) for i in range(size)]


def spelled_by_one(pieces: Sequence[str], lexicon: Lexicon, special: Sequence[int]) -> list[int]:
    """Every id whose text, stripped, is a marker of one token, in whatever case."""
    return [i for i, piece in enumerate(pieces) if i not in set(special) and lexicon.is_marker(piece)]


def spelled_by_several(
    tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, single: Sequence[int]
) -> list[tuple[list[int], int]]:
    """(tokens before, last token) of every marker that takes several tokens, with and without a space and a capital,
    with a straight and a curly apostrophe."""
    banned, found = set(single), []
    for phrase in lexicon.class_of:
        cased = [phrase, phrase.capitalize()]
        spelled = [*cased, *(text.replace("'", "’") for text in cased)]
        for text in dict.fromkeys([*spelled, *(f" {text}" for text in spelled)]):
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


def marker_ban(tokenizer: PreTrainedTokenizerBase, lexicon: Lexicon, size: int) -> LogitEdit:
    """Forbid every marker, of one token or several, in all copies of a vocabulary of `size` ids."""
    single = spelled_by_one(vocabulary_pieces(tokenizer, size), lexicon, tokenizer.all_special_ids)
    several, banned = spelled_by_several(tokenizer, lexicon, single), torch.zeros(size, dtype=torch.bool)
    banned[torch.tensor(single, dtype=torch.long)] = True

    def edit(tokens: Tensor, logits: Tensor, copy: Tensor) -> None:
        ban(banned[None], several, torch.tensor([True]))(tokens, logits, torch.zeros_like(copy))

    return edit


def control_bans(
    candidates: Sequence[int], draws: int, vocab: int, rng: np.random.Generator
) -> Bool[Tensor, "draws vocab"]:
    """Random halves of the candidate words, one per draw."""
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
    """Finds the rows that are writing the result of an equation whose operands equal those of the one before.

    `echo` forces the earlier result, token by token: words and length stay, the work is removed. `redraw`, its
    control, draws the result from the model's own distribution with fresh noise at the same positions.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str]):
        self._tokenizer = tokenizer
        self._equals = torch.tensor([bool(_BEGUN.search(piece)) for piece in pieces])
        is_part = [bool(piece) and bool(_PART.fullmatch(piece)) for piece in pieces]
        self._number = torch.tensor(is_part)
        self._parts = {pieces[i]: i for i in reversed(range(len(pieces))) if is_part[i]}

    def pending(self, tokens: Int[Tensor, " time"]) -> int | None:
        """The next token of the earlier result, if the row has just written the same operands, `=`, and as much of
        that result as comes before the token; else None."""
        text = decode(self._tokenizer, tokens[-TAIL:].tolist())
        begun = _BEGUN.search(text)
        if begun is None:
            return None
        # A stand-in for the result to come lets the one parser of equations read the open one.
        found = equations(f"{text[: begun.start(1)]} 0")
        if len(found) < 2 or found[-1].end != begun.start(1) + 2 or found[-2].operands != found[-1].operands:
            return None
        result = text[text.index("=", found[-2].start) + 1 : found[-2].end]
        if not result.startswith(begun.group(1)):
            return None
        rest = result[len(begun.group(1)) :]
        # A word-level vocabulary has no piece for the space that its decoder puts between words.
        as_written = self._longest(rest)
        return self._longest(rest.lstrip()) if as_written is None else as_written

    def _longest(self, rest: str) -> int | None:
        """The token that spells the longest beginning of `rest`."""
        starts = (rest[:length] for length in range(len(rest), 0, -1))
        return next((self._parts[start] for start in starts if start in self._parts), None)

    def rows(self, tokens: Int[Tensor, "batch time"], wanted: Bool[Tensor, " batch"]) -> list[tuple[int, int]]:
        """(row, next token of the earlier result) of the wanted rows that are writing a recomputation's result."""
        is_equals, is_number = self._equals.to(tokens.device), self._number.to(tokens.device)
        writing, digits = torch.zeros_like(wanted), torch.ones_like(wanted)
        for back in range(1, min(RESULT, tokens.shape[1]) + 1):
            last = tokens[:, -back]
            writing |= digits & is_equals[last]
            digits &= is_number[last]
        pending = ((row, self.pending(tokens[row])) for row in (writing & wanted).nonzero().squeeze(1).tolist())
        return [(row, token) for row, token in pending if token is not None]

    def echo(self, copies: Sequence[int]) -> LogitEdit:
        """Force the earlier result in these copies."""
        wanted = _member(copies)

        def edit(tokens: Tensor, logits: Tensor, copy: Tensor) -> None:
            for row, earlier in self.rows(tokens, wanted(copy)):
                logits[row] = -torch.inf
                logits[row, earlier] = 0.0

        return edit

    def redraw(self, copies: Sequence[int], seed: int, temperature: float) -> LogitEdit:
        """Draw the result at the sampler's temperature with noise of its own in these copies. The draw depends on the
        copy and the text so far alone, not on the rest of the batch."""
        wanted, fill = _member(copies), pad_id(self._tokenizer)

        def edit(tokens: Tensor, logits: Tensor, copy: Tensor) -> None:
            for row, _ in self.rows(tokens, wanted(copy)):
                if temperature:
                    text = tokens[row][tokens[row] != fill].cpu().numpy()
                    rng = np.random.default_rng((seed, int(copy[row]), crc32(text.tobytes())))
                    shares = (logits[row] / temperature).softmax(0).double().cpu()
                    drawn = int(rng.choice(len(shares), p=(shares / shares.sum()).numpy()))
                else:
                    drawn = int(logits[row].argmax())
                logits[row] = -torch.inf
                logits[row, drawn] = 0.0

        return edit


def _member(copies: Sequence[int]) -> Callable[[Int[Tensor, " batch"]], Bool[Tensor, " batch"]]:
    chosen = torch.tensor(list(copies))
    return lambda copy: torch.isin(copy, chosen.to(copy.device))
