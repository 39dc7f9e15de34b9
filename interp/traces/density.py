"""How dense each class of the lexicon is in the models' texts, and how much denser than in another model's."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import polars as pl

from interp.statistics import Bootstrap
from interp.traces.lexicon import Lexicon
from interp.traces.measure import Outcomes
from interp.traces.rollouts import per_problem

PER = 100.0
"""Tokens per unit of density."""


def class_counts(text: str, lexicon: Lexicon) -> Counter[str]:
    """Phrases of every class in a text. A mathematical word inside a marker counts in both classes."""
    return Counter(span.label for span in lexicon.marker_spans(text) + lexicon.mathematical_spans(text))


def by_class(rollouts: pl.DataFrame, lexicon: Lexicon) -> dict[str, Outcomes]:
    """Model to the outcomes of its rollouts: for every class, 100 times its phrases over the model's own tokens."""
    counts = [class_counts(text, lexicon) for text in rollouts["text"]]
    values = {label: [PER * count[label] for count in counts] for label in lexicon.classes}
    tokens = {
        model: sums["tokens"]
        for model, sums in per_problem(rollouts, {"tokens": rollouts["n_tokens"].to_numpy()}).items()
    }
    return {
        model: Outcomes({label: (sums[label], tokens[model]) for label in lexicon.classes})
        for model, sums in per_problem(rollouts, values).items()
    }


def densities(outcomes: dict[str, Outcomes], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """One row per class and model: phrases per 100 tokens (a ratio of sums, so long texts weigh more) with the 95 %
    interval over problems. A class that never occurs has the interval [0, 0], which does not tell how rare it is."""
    return [
        {
            "class": label,
            "model": model,
            "count": round(float(top.sum()) / PER),
            "tokens": round(float(tokens.sum())),
            **mine.interval(label, bootstrap).as_dict(),
        }
        for model, mine in outcomes.items()
        for label, (top, tokens) in mine.parts.items()
    ]


def changes(outcomes: dict[str, Outcomes], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """One row per class and pair of models: the density of `model` minus that of `minus`, paired by problem (both are
    resampled together). Intervals are not adjusted for the number of rows."""
    return [
        {
            "class": label,
            "model": later,
            "minus": earlier,
            **outcomes[later].change_from(outcomes[earlier], label, bootstrap).as_dict(),
        }
        for earlier, later in itertools.combinations(outcomes, 2)
        for label in outcomes[later].parts
    ]
