"""The rows of a store with their labels: the model, the problem, and the place in each behaviour."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.activations.store import Store
from interp.names import BEHAVIOURS
from interp.traces.labels import MARKER, NONE, covered, positions, token_offsets
from interp.traces.lexicon import Span


@dataclass(frozen=True)
class Labelled:
    """Rows of the store, their texts and their labels."""

    store: Store
    rows: Float[Tensor, "rows models d_model"]
    texts: pl.DataFrame
    subject: str
    """The model in whose rollouts behaviours are labelled."""
    row_model: np.ndarray
    """Model of the text that each row was read in; other models may have written the same prefix (`written_by`)."""
    row_problem: np.ndarray
    """Problem id of that text."""
    label: dict[str, np.ndarray]
    """Behaviour to each row's place (constants of `traces.labels`); NONE in prompts, in other models' texts, and
    on problems that are left out."""

    def written_by(self, model: str) -> np.ndarray:
        """Which rows stand in a rollout of a model (bool): a row that several models wrote counts for each."""
        return (self.store.index["written_by"].to_numpy() >> self.store.names.index(model)) & 1 == 1

    def at(self, behaviour: str, place: str) -> np.ndarray:
        """Which rows are at a place of a behaviour (bool)."""
        return self.label[behaviour] == place

    def in_any(self, place: str) -> np.ndarray:
        """Which rows are at a place of at least one behaviour (bool)."""
        return np.logical_or.reduce([self.at(b, place) for b in BEHAVIOURS])

    def in_all(self, place: str) -> np.ndarray:
        """Which rows are at a place of every behaviour (bool)."""
        return np.logical_and.reduce([self.at(b, place) for b in BEHAVIOURS])

    def at_marker(self) -> np.ndarray:
        """Which rows are markers, inside a behaviour or not (bool)."""
        return self.in_any(MARKER)


def label_rows(
    store: Store,
    texts: pl.DataFrame,
    traces: pl.DataFrame,
    tokenizer: PreTrainedTokenizerBase,
    subject: str,
    without: Collection[str] = (),
) -> Labelled:
    """The store's rows with a label for every row of the subject's rollouts, those of the problems `without` apart."""
    by_problem = {row["problem"]: row for row in traces.filter(pl.col("model") == subject).iter_rows(named=True)}
    text_of, position = store.index["text"].to_numpy(), store.index["position"].to_numpy()
    label = {b: np.full(len(text_of), NONE, dtype="<U9") for b in BEHAVIOURS}
    starts = np.searchsorted(text_of, np.arange(len(texts) + 1))
    for i, row in enumerate(texts.iter_rows(named=True)):
        mine = row["model"] == subject and row["problem"] not in without
        trace = by_problem[row["problem"]] if mine else None
        if trace is None or not trace["completion_ids"]:
            continue
        here = slice(starts[i], starts[i + 1])
        at = position[here] - row["completion_start"]
        for b, places in _places(trace, tokenizer).items():
            label[b][here] = np.where(at >= 0, places[np.clip(at, 0, None)], NONE)
    models, problems = texts["model"].to_numpy(), texts["problem"].to_numpy()
    return Labelled(store, store.tensor(), texts, subject, models[text_of], problems[text_of], label)


def _places(trace: dict, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """Behaviour to the place of each token of a completion."""
    offsets = token_offsets(tokenizer, trace["completion_ids"])
    marker = covered(offsets, [Span(**span) for span in trace["marker_spans"]])
    behaviours = [Span(**span) for span in trace["behaviour_spans"]]
    return {b: np.array(positions(covered(offsets, behaviours, b), marker), dtype="<U9") for b in BEHAVIOURS}
