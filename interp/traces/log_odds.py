"""Words that distinguish two models' texts: log-odds ratios with an informative Dirichlet prior.

Monroe, Colaresi & Quinn 2008, "Fightin' Words", Political Analysis 16(4), eqs. 15 to 22. The prior keeps rare words
from leading the list, as they do by plain ratios, and common ones, as they do by differences of frequency.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from interp.errors import InterpError
from interp.traces.phrases import words

PRIOR_TOTAL = 1000.0
"""Total count of the prior, in words."""


def word_counts(texts: Iterable[str], n: int = 1) -> Counter[str]:
    """Runs of `n` words over all texts; none goes from one text into the next."""
    counts: Counter[str] = Counter()
    for text in texts:
        spoken = words(text)
        counts.update(" ".join(run) for run in zip(*(spoken[i:] for i in range(n)), strict=False))
    return counts


def log_odds(
    one: Float[np.ndarray, " words"], other: Float[np.ndarray, " words"], prior: Float[np.ndarray, " words"]
) -> tuple[Float[np.ndarray, " words"], Float[np.ndarray, " words"]]:
    """(δ, z) of every word from its counts y in two corpora and its prior counts α > 0; positive is more in `one`.

    With n = Σ y and α₀ = Σ α, δ = log (yᵢ + α)/(nᵢ + α₀ - yᵢ - α) - log (yⱼ + α)/(nⱼ + α₀ - yⱼ - α), in nats;
    σ² ≈ 1/(yᵢ + α) + 1/(yⱼ + α); z = δ/σ.
    """
    i, j = one + prior, other + prior
    delta = np.log(i / (i.sum() - i)) - np.log(j / (j.sum() - j))
    return delta, delta / np.sqrt(1 / i + 1 / j)


def compare(counts: dict[str, Counter[str]], model: str, other: str, prior_total: float = PRIOR_TOTAL) -> pl.DataFrame:
    """One row per word of either model, the most typical of `model` first: `count`, `count_other`,
    `log_odds` (positive: more in `model`), `z`, and `more_in`, the model that says it more often.

    The prior is informative: the pooled counts of all models in `counts`, scaled to `prior_total` words in all.
    z assumes independent words, which those of one text are not: it ranks words and is no test.

    Raises:
        InterpError: a model is not there or is compared with itself, the two know fewer than two words, or the prior
            is worth none.
    """
    if model == other:
        raise InterpError(f"log-odds: {model!r} is compared with itself; give two models")
    if prior_total <= 0:
        raise InterpError(f"log-odds: a prior of {prior_total:g} words; give more than 0")
    for name in (model, other):
        if name not in counts:
            raise InterpError(f"log-odds: no rollouts of {name!r}; there are {', '.join(counts)}")
    pooled = Counter[str]()
    for each in counts.values():
        pooled.update(each)
    vocabulary = sorted(pooled)
    if len(counts[model].keys() | counts[other].keys()) < 2:
        raise InterpError(f"log-odds: {model} and {other} hold fewer than two different words; there are no odds")
    one, two, prior = (
        np.array([c[w] for w in vocabulary], dtype=np.float64) for c in (counts[model], counts[other], pooled)
    )
    delta, z = log_odds(one, two, prior * (prior_total / prior.sum()))
    table = pl.DataFrame(
        {"word": vocabulary, "count": one.astype(int), "count_other": two.astype(int), "log_odds": delta, "z": z}
    )
    direction = pl.when(pl.col("z") > 0).then(pl.lit(model)).when(pl.col("z") < 0).then(pl.lit(other))
    spoken = table.filter(pl.col("count") + pl.col("count_other") > 0)
    return spoken.with_columns(more_in=direction).sort("z", "word", descending=[True, False])


def paired_z(one: Sequence[Counter[str]], other: Sequence[Counter[str]]) -> dict[str, float]:
    """z of every word's mean difference in rate, the counts of each problem paired: mean over its standard error,
    infinite where all problems differ by the same. The problem is the unit, so that words of one text need not be
    independent; a word that is in k problems of `one` alone has a z of about √k at most."""
    sums, squares = defaultdict[str, float](float), defaultdict[str, float](float)
    for a, b in zip(one, other, strict=True):
        n, m = max(1, a.total()), max(1, b.total())
        for word in a.keys() | b.keys():
            difference = a[word] / n - b[word] / m
            sums[word] += difference
            squares[word] += difference**2
    mean, square = (np.array([c[word] for word in sums], dtype=np.float64) / len(one) for c in (sums, squares))
    error = np.sqrt(np.maximum(square - mean**2, 0.0) / (len(one) - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(mean == 0, 0.0, mean / error)
    return dict(zip(sums, z.tolist(), strict=True))
