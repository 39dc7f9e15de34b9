"""Intervals and p-values. Problems are the unit that is resampled, never tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def reaching(self, edge: float) -> Interval:
        """The interval, widened where it does not reach as far as `edge` to either side of the estimate."""
        return Interval(self.estimate, min(self.low, self.estimate - edge), max(self.high, self.estimate + edge))

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
        """Resamples of `n` problems, as many and from the same seed. Drawn anew: they are not the draws of all `self.n`
        problems restricted to the first `n`."""
        return self if n == self.n else Bootstrap(n, self._resamples, self._seed)

    def sums(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " resamples"]:
        """The resampled sums of one value a problem."""
        return (self.counts @ np.asarray(values, dtype=np.float32)).astype(np.float64)

    def mean(self, values: Sequence[float] | Float[np.ndarray, " n"]) -> Interval:
        """Mean over problems. Where every value is 0, or every value is 1, no resample varies; the interval is then
        Clopper and Pearson's."""
        array = np.asarray(values, dtype=np.float64)
        if array.min() == array.max() and array[0] in (0.0, 1.0):
            return Interval(float(array[0]), *clopper_pearson(int(array.sum()), len(array)))
        return self.interval(float(array.mean()), self.sums(array) / self.n)

    def difference(self, differences: Float[np.ndarray, " n"], *, within: float | None = None) -> Interval:
        """Mean of paired differences over problems.

        `within` is the largest size that one difference can have (1 for outcomes between 0 and 1), None where there
        is no such limit. Where few problems change, resamples vary too little, and not at all where none does: where
        differences are whole multiples of `within`, the interval therefore reaches at least `within` times the largest
        share of changed problems that Clopper and Pearson's interval allows after none of n, to either side.
        """
        found = self.interval(float(np.mean(differences)), self.sums(differences) / self.n)
        if within is None:
            return found
        wide = found.reaching(self.least(differences, within))
        return Interval(wide.estimate, max(min(found.low, -within), wide.low), min(max(found.high, within), wide.high))

    def least(self, differences: Float[np.ndarray, " n"], within: float) -> float:
        """How far the interval of a mean difference must reach to either side, by the rule of `difference`; 0 where the
        differences are no whole multiples of `within`."""
        whole = np.all(differences == within * np.round(differences / within))
        return within * clopper_pearson(0, len(differences))[1] if whole else 0.0

    def ratio(self, numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"]) -> Interval | Refused:
        """Ratio of sums over problems; resamples whose denominator is 0 are left out."""
        total = float(np.sum(denominator))
        if total <= 0:
            return Refused("nothing to divide by: the event never occurred")
        below = self.sums(denominator)
        ratios = self.sums(numerator)[below > 0] / below[below > 0]
        return self.interval(float(np.sum(numerator)) / total, ratios)

    def beyond(
        self,
        effect: Float[np.ndarray, " n"],
        controls: Float[np.ndarray, "draws m"],
        among: Int[np.ndarray, " m"],
        *,
        within: float | None = None,
    ) -> Interval:
        """Mean of a paired difference minus the mean of the controls', whose draws are of the problems `among` alone.
        Two levels are resampled: problems, the same for effect and controls, and the control draws, so that the
        interval holds the controls' noise too. It reaches as far as that of `difference`, where nothing changes too."""
        control = self.control_draws(controls, among)
        draws = self.sums(effect) / self.n - control
        found = self.interval(float(np.mean(effect)) - float(np.mean(controls)), draws[np.isfinite(draws)])
        return found if within is None else found.reaching(self.least(effect, within))

    def control_draws(
        self, controls: Float[np.ndarray, "draws m"], among: Int[np.ndarray, " m"]
    ) -> Float[np.ndarray, " resamples"]:
        """Resampled means of control draws over draws and problems; nan where a resample holds none of the problems."""
        n = len(controls)
        weights = np.random.default_rng([self._seed, n]).multinomial(n, np.full(n, 1 / n), size=self._resamples) / n
        counts = self.counts[:, among]
        with np.errstate(invalid="ignore"):
            means = (counts @ np.asarray(controls, dtype=np.float32).T) / counts.sum(axis=1, keepdims=True)
        return (means * weights).sum(axis=1)

    @staticmethod
    def interval(estimate: float, draws: Float[np.ndarray, " resamples"]) -> Interval:
        """Percentile interval of resampled estimates."""
        low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return Interval(estimate, float(low), float(high))


def bootstraps(resamples: int, seed: int) -> Callable[[int], Bootstrap]:
    """The resamples of n problems for every n that a table asks for, each drawn once."""
    return cache(lambda n: Bootstrap(n, resamples, seed))


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """Exact 95 % interval of a share, from its count (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    low, high = binomtest(successes, n).proportion_ci(LEVEL, "exact")
    return float(low), float(high)


def control_p(effect: float, controls: Sequence[float]) -> float:
    """Two-sided Monte-Carlo p of an effect against draws of matched controls: the share of all values, the effect
    among them, at least as far from their common mean as the effect; never below 1 / (n + 1). Exact where the effect is
    exchangeable with the draws."""
    everything = np.array([effect, *controls], dtype=np.float64)
    distance = np.abs(everything - everything.mean())
    return float((distance >= distance[0] - 1e-12).mean())


def sign_p(draws: Float[np.ndarray, " resamples"]) -> float:
    """Two-sided p that an effect is 0, from its resamples: twice the share on the far side of 0, the observed sample
    counted as one of them (Davison & Hinkley 1997, eq. 4.11)."""
    far = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (1 + far) / (1 + len(draws)))


def can_pass(draws: int, tests: int) -> bool:
    """Whether the smallest p of that many control draws can fall to .05 after Holm's correction for `tests`."""
    return tests / (draws + 1) <= 1 - LEVEL + 1e-12


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979) over the p-values that are given; None stays None and does not count."""
    from statsmodels.stats.multitest import multipletests

    given = [p for p in ps if p is not None]
    adjusted = iter(np.asarray(multipletests(given, method="holm")[1]).tolist() if given else [])
    return [None if p is None else next(adjusted) for p in ps]


def problems_needed(interval: Interval, n: int, bound: float) -> int | None:
    """Number of problems with which an interval of this spread, which shrinks as 1/√n, would no longer hold `bound`.

    At least `n`. None above a hundred times `n`: the estimate is then so near the bound that its own error decides
    the number.
    """
    gap = abs(interval.estimate - bound)
    half = (interval.high - interval.low) / 2
    return None if gap <= half / 10 else max(n, math.ceil(n * (half / gap) ** 2))
