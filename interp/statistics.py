"""Intervals and p-values. Problems are the unit that is resampled, never tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Refused:
    """A number that cannot be given, and why."""

    refused: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class Bootstrap:
    """Resamples of `n` problems, drawn once, so that all intervals of a table rest on the same draws."""

    def __init__(self, n: int, resamples: int = 10000, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.n, self._resamples, self._seed = n, resamples, seed
        self.counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float32)
        """[resamples, n]: how often each problem was drawn."""

    def first(self, n: int) -> Bootstrap:
        """The same draws of the first `n` problems alone."""
        return self if n == self.n else Bootstrap(n, self._resamples, self._seed)

    def sums(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " resamples"]:
        """The resampled sums of one value a problem."""
        return (self.counts @ np.asarray(values, dtype=np.float32)).astype(np.float64)

    def mean(self, values: Sequence[float] | Float[np.ndarray, " n"]) -> Interval:
        """Mean over problems. Where all outcomes are the same 0 or 1, which no resample can vary, the interval is
        Clopper and Pearson's."""
        array = np.asarray(values, dtype=np.float64)
        if array.min() == array.max() and array[0] in (0.0, 1.0):
            edge = (0.5 - LEVEL / 2) ** (1 / len(array))
            return Interval(array[0], *((edge, 1.0) if array[0] == 1.0 else (0.0, 1 - edge)))
        return self.interval(float(array.mean()), self.sums(array) / self.n)

    def difference(self, differences: Float[np.ndarray, " n"]) -> Interval:
        """Mean of paired differences over problems."""
        return self.interval(float(np.mean(differences)), self.sums(differences) / self.n)

    def ratio(self, numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"]) -> Interval | Refused:
        """Ratio of sums over problems; resamples whose denominator is 0 are left out."""
        total = float(np.sum(denominator))
        if total <= 0:
            return Refused("nothing to divide by: the event never occurred")
        below = self.sums(denominator)
        ratios = self.sums(numerator)[below > 0] / below[below > 0]
        return self.interval(float(np.sum(numerator)) / total, ratios)

    @staticmethod
    def interval(estimate: float, draws: Float[np.ndarray, " resamples"]) -> Interval:
        """Percentile interval of resampled estimates."""
        low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return Interval(estimate, float(low), float(high))


def control_p(effect: float, controls: Sequence[float]) -> float:
    """Two-sided p of an effect against draws of matched controls, about their mean, with the +1 of a Monte-Carlo
    test; never below 1 / (n + 1)."""
    draws = np.asarray(controls, dtype=np.float64)
    centre = draws.mean()
    beyond = np.abs(draws - centre) >= abs(effect - centre) - 1e-12
    return float((1 + beyond.sum()) / (1 + len(draws)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment; None stays None and does not count."""
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i] or 0.0)
    adjusted: list[float | None] = [None] * len(ps)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * float(ps[i] or 0.0)))
        adjusted[i] = running
    return adjusted


def problems_needed(interval: Interval, n: int, bound: float) -> int | None:
    """Problems with which an interval of this spread, which shrinks as 1/√n, would leave `bound` outside it; None
    where they would be more than a hundred times those at hand: the estimate is then so near the bound that its own
    error decides the number."""
    gap = abs(interval.estimate - bound)
    half = (interval.high - interval.low) / 2
    return None if gap <= half / 10 else max(n, math.ceil(n * (half / gap) ** 2))


def as_json(value: Interval | Refused) -> dict[str, Any]:
    """The form in which tables and `verdict.json` hold a number."""
    return value.as_dict()
