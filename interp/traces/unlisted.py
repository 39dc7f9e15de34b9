"""Style words that no lexicon lists: what sets a model's texts apart from those of the models it is compared with.

A word sets the model apart where two statistics pass a threshold, each against every other model: Monroe's z of the
log-odds (`log_odds`), which takes words for independent, and the z of the mean paired difference in rate over problems,
which does not: a word of k problems only has at most a z of about √k, however often one text says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

from interp.errors import InterpError
from interp.traces.lexicon import Lexicon
from interp.traces.log_odds import compare, paired_z
from interp.traces.phrases import canonical, words

ALPHA = 0.05
"""Chance that any word passes where no model differs, by Bonferroni over the words tested."""
LEAST = 4.0
"""Least threshold of z, Bonferroni's for 1,600 words. With fewer words a lower one would do if z were normal, which it
is not for rare words; below 17 problems that hold it, no word of the model alone can pass."""
LISTED, CONTENT = "\x01", "\x02"
"""Begin the marker's and the prompt's words, which are words of their own beside others of the same spelling."""
Place = tuple[str, str]
"""(model, problem)."""


@dataclass(frozen=True)
class StyleWord:
    """A word or a listed marker that sets the model apart."""

    word: str
    listed: bool
    counts: Mapping[str, int]
    """Model to how often it says the word."""
    problems: float
    """Share of the problems in which the model says it."""
    log_odds: float
    """The smallest over the other models, in nats; positive is more in the model."""
    z: float
    """The smallest z of both statistics over the other models."""
    excess: float
    """Rate above that of the other model that says it most, per word."""


@dataclass(frozen=True)
class StyleWords:
    """The words that set a model apart, the highest z first."""

    unlisted: tuple[StyleWord, ...]
    """In no class of the lexicon."""
    listed: tuple[StyleWord, ...]
    """Markers."""
    threshold: float
    """Of z."""
    tested: int
    """Words and markers that were compared."""

    @property
    def coverage(self) -> float:
        """Share of the model's excess, summed over the words that set it apart, that listed markers account for; 1.0
        where nothing sets it apart. Words below the threshold are left out, as chance alone gives each an excess."""
        listed, unlisted = (sum(word.excess for word in group) for group in (self.listed, self.unlisted))
        return listed / (listed + unlisted) if listed + unlisted > 0 else 1.0


def style_words(
    rollouts: pl.DataFrame, lexicon: Lexicon, model: str = "distilled", others: Sequence[str] = ("base", "control")
) -> StyleWords:
    """The words by which `model` differs from each of `others`, from rollouts with the columns `problem`, `model`,
    `prompt`, `text`. A marker counts as one word. Neutral and mathematical words, numbers, single letters and the words
    of a problem's own prompt are no style and are not tested.

    Raises:
        InterpError: a model has no rollouts, or fewer than two problems are answered by all.
    """
    spoken = _spoken(rollouts, lexicon, (model, *others))
    problems = sorted(set.intersection(*({p for m, p in spoken if m == name} for name in (model, *others))))
    if len(problems) < 2:
        raise InterpError(f"style words: fewer than two problems are answered by all of {model}, {', '.join(others)}")
    counts = {name: sum((spoken[name, p] for p in problems), Counter()) for name in (model, *others)}
    tested = sorted(word for word in set().union(*counts.values()) if _is_style(word, lexicon))
    threshold = max(LEAST, float(norm.isf(ALPHA / max(1, len(tested)))))
    odds = [dict(_rows(compare(counts, model, other))) for other in others]
    mine = [spoken[model, p] for p in problems]
    paired = [paired_z(mine, [spoken[other, p] for p in problems]) for other in others]
    found = []
    for word in tested:
        z = min(min(row.get(word, (0.0, 0.0))[1], p.get(word, 0.0)) for row, p in zip(odds, paired, strict=True))
        if z > threshold:
            found.append(_style_word(word, z, min(row[word][0] for row in odds), spoken, problems, counts, model))
    found.sort(key=lambda word: (-word.z, word.word))
    listed, unlisted = (tuple(w for w in found if w.listed is kind) for kind in (True, False))
    return StyleWords(unlisted, listed, threshold, len(tested))


def _style_word(
    word: str,
    z: float,
    delta: float,
    spoken: Mapping[Place, Counter[str]],
    problems: Sequence[str],
    counts: Mapping[str, Counter[str]],
    model: str,
) -> StyleWord:
    rates = {name: count[word] / max(1, count.total()) for name, count in counts.items()}
    excess = rates[model] - max(rate for name, rate in rates.items() if name != model)
    within = float(np.mean([word in spoken[model, p] for p in problems]))
    said = {name: count[word] for name, count in counts.items()}
    name, listed = word.removeprefix(LISTED), word.startswith(LISTED)
    return StyleWord(name, listed, said, within, delta, z, max(0.0, excess))


def _spoken(rollouts: pl.DataFrame, lexicon: Lexicon, models: Sequence[str]) -> dict[Place, Counter[str]]:
    """Words of each model on each problem."""
    found: dict[Place, Counter[str]] = {}
    columns = rollouts.select("model", "problem", "prompt", "text")
    for model, problem, prompt, text in columns.iter_rows():
        if model in models:
            own = set(words(prompt))
            found.setdefault((model, problem), Counter()).update(
                word if word[0] == LISTED or word not in own else CONTENT + word for word in _units(text, lexicon)
            )
    return found


def _units(text: str, lexicon: Lexicon) -> list[str]:
    """The words of a text, each marker as one."""
    units, at = [], 0
    for span in lexicon.marker_spans(text):
        units += [*words(text[at : span.start]), LISTED + canonical(text[span.start : span.end])]
        at = span.end
    return units + words(text[at:])


def _is_style(word: str, lexicon: Lexicon) -> bool:
    if word.startswith(LISTED):
        return True
    plain = {*map(canonical, lexicon.neutral), *lexicon.mathematical}
    return not (word.startswith(CONTENT) or len(word) == 1 or any(map(str.isdigit, word)) or word in plain)


def _rows(table: pl.DataFrame) -> list[tuple[str, tuple[float, float]]]:
    return [(word, (delta, z)) for word, delta, z in table.select("word", "log_odds", "z").iter_rows()]
