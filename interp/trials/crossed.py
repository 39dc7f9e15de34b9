"""Bootstrap intervals over problems and seeds together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.statistics import Bootstrap, Interval, Refused

Parts = tuple[Float[np.ndarray, "seeds problems"], Float[np.ndarray, "seeds problems"]]
"""Numerator and denominator of an outcome, which is a ratio of sums."""


@dataclass(frozen=True)
class Crossed:
    """Resamples of seeds and of problems (the same problems for every seed), drawn once for a whole table.

    With few seeds the variance between seeds is underestimated: with n seeds by the factor (n - 1) / n.
    """

    seeds: Float[np.ndarray, "resamples seeds"]
    problems: Float[np.ndarray, "resamples problems"]

    @classmethod
    def of(cls, n_seeds: int, n_problems: int, resamples: int = 10000, seed: int = 0) -> Crossed:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=resamples).astype(np.float32)
        return cls(counts, Bootstrap(n_problems, resamples, seed + 1).counts)

    def of_these_seeds(self) -> Crossed:
        """The same resamples of problems, every seed counted once."""
        return Crossed(np.ones_like(self.seeds), self.problems)

    def value(self, parts: Parts) -> Interval | Refused:
        """The ratio of sums over all seeds and problems."""
        return self._interval(ratio(parts), self._draws(parts))

    def difference(self, first: Parts, second: Parts) -> Interval | Refused:
        """First minus second, both resampled together."""
        return self._interval(ratio(first) - ratio(second), self._draws(first) - self._draws(second))

    def _draws(self, parts: Parts) -> Float[np.ndarray, " resamples"]:
        top, bottom = (
            np.einsum("rs,rs->r", self.problems @ part.T.astype(np.float32), self.seeds).astype(np.float64)
            for part in parts
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return top / bottom

    @staticmethod
    def _interval(estimate: float, draws: Float[np.ndarray, " resamples"]) -> Interval | Refused:
        finite = draws[np.isfinite(draws)]
        if not np.isfinite(estimate) or not len(finite):
            return Refused("nothing to divide by: the event never occurred")
        return Bootstrap.interval(estimate, finite)


def ratio(parts: Parts) -> float:
    """Sum of numerators over sum of denominators; nan where the latter is 0."""
    top, bottom = (float(part.sum()) for part in parts)
    return top / bottom if bottom else float("nan")
