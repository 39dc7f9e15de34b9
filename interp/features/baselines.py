"""What a latent of a behaviour must be compared with: how far counting markers already tells the behaviour, and how far
a linear probe of the edited model's residual does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from interp.features.behaviour import FEWEST, selection_half
from interp.features.labelled import Labelled
from interp.names import BEHAVIOURS
from interp.traces.labels import ELSEWHERE, INSIDE

WINDOW = 16
"""Tokens up to which markers are counted before a row."""
MOST = 4000
"""Rows of each kind and half that are fitted or scored."""
SCHEMA = {"behaviour": pl.String, "what": pl.String, "auroc": pl.Float64, "fitted": pl.Int64, "held_out": pl.Int64}
"""Columns of `baselines.parquet`; AUROC on the half of the problems that was not fitted on."""


def baselines(data: Labelled, markers: Sequence[Sequence[int]], seed: int) -> pl.DataFrame:
    """AUROC, inside a behaviour (off markers) against elsewhere, of a logistic regression on the counts of each
    marker's tokens in the last WINDOW tokens, and of one on the edited model's residual; with SCHEMA, behaviours with
    too few rows being absent."""
    words, chosen = np.unique([token for phrase in markers for token in phrase]), selection_half(_problems(data))
    counts = bag(data, words)
    slot, found = data.store.names.index(data.subject), []
    for behaviour in BEHAVIOURS:
        rng = np.random.default_rng([seed, BEHAVIOURS.index(behaviour)])
        inside, elsewhere = data.at(behaviour, INSIDE), data.at(behaviour, ELSEWHERE)
        if min((side & half).sum() for side in (inside, elsewhere) for half in (chosen, ~chosen)) < FEWEST:
            continue
        fitted, held = ([_some(side & half, rng) for side in (inside, elsewhere)] for half in (chosen, ~chosen))
        sizes = {"fitted": sum(map(len, fitted)), "held_out": sum(map(len, held))}
        for what in ("bag of markers", "linear probe"):
            if what == "linear probe":
                x, y = ([data.rows[rows, slot].float().numpy() for rows in half] for half in (fitted, held))
            else:
                x, y = ([counts[rows] for rows in half] for half in (fitted, held))
            found.append({"behaviour": behaviour, "what": what, "auroc": _auroc(x, y)} | sizes)
    return pl.DataFrame(found, schema=SCHEMA)


def bag(data: Labelled, words: np.ndarray) -> Float[np.ndarray, "rows words"]:
    """How often each of these tokens stands among the WINDOW tokens up to each row, itself among them, of the
    completion."""
    text, position = data.store.index["text"].to_numpy(), data.store.index["position"].to_numpy()
    counts = np.zeros((len(text), len(words)), dtype=np.float32)
    starts = np.searchsorted(text, np.arange(len(data.texts) + 1))
    for i, row in enumerate(data.texts.select("ids", "completion_start").iter_rows(named=True)):
        ids, begin = np.asarray(row["ids"]), row["completion_start"]
        if starts[i] == starts[i + 1] or not len(words):
            continue
        seen = np.zeros((len(ids) + 1, len(words)), dtype=np.float32)
        seen[1:] = np.cumsum((ids[:, None] == words) & (np.arange(len(ids)) >= begin)[:, None], axis=0)
        here = position[starts[i] : starts[i + 1]]
        counts[starts[i] : starts[i + 1]] = seen[here + 1] - seen[np.maximum(here + 1 - WINDOW, 0)]
    return counts


def _problems(data: Labelled) -> list[str]:
    return data.row_problem.tolist()


def _some(rows: Bool[np.ndarray, " rows"], rng: np.random.Generator) -> np.ndarray:
    """Places of at most MOST of the rows, in order."""
    every = np.flatnonzero(rows)
    return every if len(every) <= MOST else np.sort(rng.choice(every, MOST, replace=False))


def _auroc(fitted: Sequence[np.ndarray], held: Sequence[np.ndarray]) -> float:
    """Of a logistic regression on standardised columns; [inside, elsewhere] of either half."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    x, y = (np.concatenate(list(half)) for half in (fitted, held))
    mean, scale = x.mean(0), x.std(0) + 1e-6
    labels, truth = (np.repeat([1, 0], [len(half[0]), len(half[1])]) for half in (fitted, held))
    if not x.shape[1]:
        return 0.5
    with threadpool_limits(1):  # the solver's products are too small to share
        model = LogisticRegression(max_iter=1000, class_weight="balanced").fit((x - mean) / scale, labels)
        return float(roc_auc_score(truth, model.decision_function((y - mean) / scale)))
