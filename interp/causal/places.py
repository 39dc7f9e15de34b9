"""Where an edit acts. A place is decided from the text so far, at the moment a token is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.generation.noise import uniform
from interp.traces.equations import equations
from interp.traces.events import kind_of_end
from interp.traces.lexicon import Lexicon

LOOK_BACK = 64
"""Tokens of a text that decide whether a position is a place."""
STREAM = 3
"""Stream of the random places' coins."""
_SENTENCE_END = re.compile(r"[.!?。！？\n]\s*$")


@dataclass(frozen=True)
class Reading:
    """The tokens that are read in one forward."""

    position: Int[Tensor, "rows new"]
    """Counted from the row's first token, without padding."""
    real: Bool[Tensor, "rows new"]
    """False at padding."""
    in_prompt: Bool[Tensor, "rows new"]
    numbers: Int[Tensor, " rows"]
    """Number of each row's problem."""
    texts: Callable[[], Sequence[str]]
    """The text of each row's completion up to the last of its tokens."""
    ends_prompt: bool = True
    """Whether the last token read of a prompt is its last; false where only what all prompts begin with is read."""


@dataclass(frozen=True)
class Places:
    """Positions at which an edit acts; `a & b` is where both hold, `a | b` where one does, `~a` where it does not."""

    name: str
    mask: Callable[[Reading], Bool[Tensor, "rows new"]] = field(repr=False, compare=False)

    def __and__(self, other: Places) -> Places:
        return Places(f"{self.name} and {other.name}", lambda r: self.mask(r) & other.mask(r))

    def __or__(self, other: Places) -> Places:
        return Places(f"{self.name} or {other.name}", lambda r: self.mask(r) | other.mask(r))

    def __invert__(self) -> Places:
        return Places(f"not {self.name}", lambda r: ~self.mask(r))

    def __str__(self) -> str:
        return self.name


def _last_column(r: Reading) -> Bool[Tensor, "rows new"]:
    last = torch.zeros_like(r.real)
    last[:, -1] = True
    return last


EVERYWHERE = Places("everywhere", lambda r: torch.ones_like(r.real))
PROMPT = Places("prompt", lambda r: r.in_prompt)
PROMPT_END = Places("the prompt's end", lambda r: _last_column(r) & r.in_prompt & r.ends_prompt)
"""The last token of the prompt, where the first word of the completion is chosen."""
COMPLETION = Places("completion", lambda r: ~r.in_prompt)


def after_first(n: int) -> Places:
    """All positions but the first `n`, on which dictionaries are not trained."""
    return Places(f"after {n}", lambda r: r.position >= n)


def where(name: str, ends_there: Callable[[str], bool]) -> Places:
    """The tokens of a completion with which the text so far satisfies a condition. `name` must tell it from others: it
    stands for the condition in a run's key."""

    def mask(r: Reading) -> Tensor:
        found = torch.zeros_like(r.real)
        if not bool(r.in_prompt.all()):
            ends = torch.tensor([bool(text) and ends_there(text) for text in r.texts()], device=found.device)
            found[:, -1] = ends
        return found & ~r.in_prompt

    return Places(name, mask)


def ends_step(text: str) -> bool:
    """Whether a text ends with a step or a sentence."""
    return _ends_there(text[-200:])


@lru_cache(maxsize=1 << 16)  # the draws of an arm write much of the same text
def _ends_there(tail: str) -> bool:
    if _SENTENCE_END.search(tail):
        return True
    found = equations(tail)
    return bool(found) and found[-1].end == len(tail.rstrip())


FORKS = where("forks", ends_step)
"""The tokens that end a step or a sentence, where a check can begin or not. The digits of a result all count, because
the text so far does not show which one is the last."""


def behind(kinds: frozenset[str]) -> Places:
    """The tokens behind which a place of one of these kinds begins (`events.kind_of_end`)."""
    return where(f"behind {', '.join(sorted(kinds))}", lambda text: kind_of_end(text[-80:]) in kinds)


def markers(lexicon: Lexicon) -> Places:
    """The tokens that end a marker."""

    def is_marker(text: str) -> bool:
        spans = lexicon.marker_spans(text[-80:])
        return bool(spans) and spans[-1].end == len(text[-80:].rstrip())

    return where(f"markers of {lexicon.name} {lexicon.version}", is_marker)


def random(rate: float, seed: int = 0) -> Places:
    """Each position of the completion with probability `rate`, by a coin that depends on the problem and the position
    alone."""

    def mask(r: Reading) -> Tensor:
        coins = torch.stack([uniform(seed, r.numbers, column, STREAM) for column in r.position.unbind(1)], dim=1)
        return (coins < rate) & ~r.in_prompt

    return Places(f"random {rate!r} seed {seed}", mask)


def random_like(rate_of: float, tokens: float, seed: int = 0) -> Places:
    """Random places as frequent as others: `rate_of` of them in `tokens` tokens of untouched texts."""
    return random(min(1.0, rate_of / tokens) if tokens else 0.0, seed)
