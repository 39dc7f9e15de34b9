"""One job's rows in a batch at one step: what edits read and change."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Job:
    """Completions of some prompts under one run's edits of the text."""

    prompts: Sequence[list[int]]
    """Token ids."""
    numbers: Sequence[int]
    """Number of each prompt's problem, on which its noise depends."""
    edits: TextEdits | None = None


class TextEdits(Protocol):
    """Edits of what a model writes."""

    by_row: bool
    """Whether they change the prompts of one job unlike each other, so that no beginning may be read once for all."""

    def before(self, part: Part) -> None:
        """Change `part.logits`, the next token's, in place."""
        ...

    def after(self, part: Part) -> None:
        """Change `part.chosen` in place, take tokens back, or force the tokens to come."""
        ...


@dataclass
class Part:
    """The rows of one job that are still written."""

    job: int
    """Number of the job in the batch."""
    rows: Sequence[int]
    """Place of each row's prompt in its job."""
    numbers: Int[Tensor, " rows"]
    """Number of each row's problem."""
    step: int
    """Choices made since the prompt."""
    prompts: Sequence[list[int]]
    """Token ids of each row's prompt."""
    written: Sequence[list[int]]
    """Token ids of each row's completion so far."""
    forced: Sequence[deque[int]]
    """Tokens that each row is to write next."""
    done: Sequence[bool]
    """Whether each row has ended and only waits for the batch to become smaller."""
    mask: Int[Tensor, "rows time"]
    """1 at the positions that are read so far, 0 at padding and at tokens taken back."""
    logits: Float[Tensor, "rows vocab"] = field(default_factory=lambda: torch.empty(0, 0))
    """Of the next token."""
    noise: Float[Tensor, "rows vocab"] | None = None
    """The Gumbel noise of this choice; None where decoding is greedy."""
    chosen: Int[Tensor, " rows"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """The next tokens, once they are chosen."""
    again: set[int] = field(default_factory=set)
    """Rows that read their last token again and choose anew."""
    is_beginning: bool = False
    """Whether its one row is what all prompts of the job begin with."""
    left: Sequence[int] = ()
    """Tokens that each row may still write."""

    def __post_init__(self) -> None:
        self.free = [i for i, tokens in enumerate(self.forced) if not tokens and not self.done[i]]
        """The rows that choose their next token themselves: it is not forced, and they have not ended."""
        self.hides = False
        """Whether a position that was read has been hidden in this step."""

    def take_back(self, i: int, n: int) -> None:
        """Take back the last `n` tokens that row `i` has written: nothing attends to them any more, and positions are
        counted without them."""
        if n:
            del self.written[i][-n:]
            self._hide(i, n)

    def choose_again(self, i: int) -> None:
        """Drop row `i`'s choice: its last token is read anew, and the next choice is made in its place."""
        self._hide(i, 1)
        self.again.add(i)

    def last(self, i: int) -> int:
        """The last token that row `i` holds, of its completion or of its prompt."""
        return (self.written[i] or self.prompts[i])[-1]

    def is_last(self, i: int) -> bool:
        """Whether row `i` ends with this choice, since it has reached its limit."""
        return bool(self.left) and self.left[i] <= 1

    def _hide(self, i: int, n: int) -> None:
        self.hides = True
        shown = self.mask[i].nonzero().squeeze(1)
        self.mask[i, shown[-n:]] = 0

    def force(self, i: int, ids: Sequence[int]) -> None:
        """Write these tokens in row `i` after the one that is chosen now."""
        self.forced[i].extend(ids)

    def choose(self, i: int, token: int) -> None:
        """Replace row `i`'s choice."""
        self.chosen[i] = token


def ranges(counts: Sequence[int]) -> list[slice]:
    """Consecutive slices of these lengths."""
    ends = torch.tensor(counts, dtype=torch.long).cumsum(0).tolist()
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
