"""The decision as one number: the log-odds of the tokens that begin a behaviour against those that go on without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CLEAR = 4.0
"""A token is of one side where it follows that side's places this many times as often as the other's."""
RARE = 0.01
"""Share of a side's places that a token must follow to be of that side."""


@dataclass(frozen=True)
class Margin:
    """The first tokens of two alternatives, the same for all pairs."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    positive_share: float
    """Share of the positive places that a token of `positive` follows."""
    negative_share: float
    """Share of the negative places that a token of `negative` follows."""

    def of(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """M = log p(positive) - log p(negative) of the next token, in nats."""
        return logits[:, list(self.positive)].logsumexp(1) - logits[:, list(self.negative)].logsumexp(1)

    def p(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """Probability that a positive token comes next."""
        return (logits[:, list(self.positive)].logsumexp(1) - logits.logsumexp(1)).exp()

    def harm(self, before: Float[Tensor, "rows vocab"], after: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """KL(before ‖ after), nats, of the next token given that it is none of `positive`: what is done to how the text
        goes on, whatever is done to the decision."""
        away = torch.zeros(before.shape, dtype=torch.bool, device=before.device)
        away[:, list(self.positive)] = True
        return _kl_without(away, before, after)

    def only(self, kept: Iterable[bool]) -> Margin:
        """Of some of the pairs."""
        return self


@dataclass(frozen=True)
class PairMargin:
    """Two alternatives that are other tokens in each pair: `positive[i]` against `negative[i]` in the i-th."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]

    def of(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """M = log p(positive) - log p(negative) of the next token, in nats; one row for each pair."""
        return _at(logits, self.positive) - _at(logits, self.negative)

    def p(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """Probability that the pair's positive token comes next."""
        return _at(logits.log_softmax(1), self.positive).exp()

    def harm(self, before: Float[Tensor, "rows vocab"], after: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
        """KL(before ‖ after), nats, of the next token given that it is not the pair's positive one."""
        away = torch.zeros(before.shape, dtype=torch.bool, device=before.device)
        away[range(len(away)), list(self.positive)] = True
        return _kl_without(away, before, after)

    def only(self, kept: Iterable[bool]) -> PairMargin:
        """Of some of the pairs."""
        chosen = list(kept)
        return PairMargin(tuple(compress(self.positive, chosen)), tuple(compress(self.negative, chosen)))


def _at(x: Float[Tensor, "rows vocab"], tokens: tuple[int, ...]) -> Float[Tensor, " rows"]:
    return x.gather(1, torch.tensor(tokens, device=x.device)[:, None]).squeeze(1)


def _kl_without(
    away: Bool[Tensor, "rows vocab"], before: Float[Tensor, "rows vocab"], after: Float[Tensor, "rows vocab"]
) -> Float[Tensor, " rows"]:
    """KL of two distributions, from their logits, each given that no token of `away` comes."""
    first, second = (logits.masked_fill(away, -torch.inf).log_softmax(1) for logits in (before, after))
    return (first.exp() * (first - second).masked_fill(away, 0.0)).sum(1)


def margin_of(after_positive: Iterable[int], after_negative: Iterable[int]) -> Margin | None:
    """The tokens that tell two kinds of place apart, from the tokens that follow each; None where one kind is missing
    or no token is clearly of one side."""
    positive, negative = Counter(after_positive), Counter(after_negative)
    if not positive or not negative:
        return None
    first, second = _clear(positive, negative), _clear(negative, positive)
    if not first or not second:
        return None
    return Margin(first, second, _share(first, positive), _share(second, negative))


def _clear(own: Counter[int], other: Counter[int]) -> tuple[int, ...]:
    return tuple(
        sorted(
            token
            for token, n in own.items()
            if n / own.total() >= RARE and n / own.total() >= CLEAR * other[token] / other.total()
        )
    )


def _share(tokens: tuple[int, ...], counts: Counter[int]) -> float:
    return sum(counts[token] for token in tokens) / counts.total()
