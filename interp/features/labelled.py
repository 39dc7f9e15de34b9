"""The rows of a store with what the traces say of them."""

from __future__ import annotations

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
    """Rows of the store, their texts and their places."""

    store: Store
    rows: Float[Tensor, "rows models d_model"]
    texts: pl.DataFrame
    subject: str
    """Whose rollouts the behaviours are looked for in."""
    row_model: np.ndarray
    """Whose text each row is of."""
    row_problem: np.ndarray
    label: dict[str, np.ndarray]
    """Behaviour to each row's place (constants of `traces.labels`); NONE in prompts and in others' texts."""

    def at(self, behaviour: str, place: str) -> np.ndarray:
        """Which rows stand at a place of a behaviour."""
        return self.label[behaviour] == place

    def in_any(self, place: str) -> np.ndarray:
        """Which rows stand at a place of at least one behaviour."""
        return np.logical_or.reduce([self.at(b, place) for b in BEHAVIOURS])

    def in_all(self, place: str) -> np.ndarray:
        """Which rows stand at a place of every behaviour."""
        return np.logical_and.reduce([self.at(b, place) for b in BEHAVIOURS])

    def at_marker(self) -> np.ndarray:
        """Which rows are markers, in or out of a behaviour."""
        return self.in_any(MARKER)


def label_rows(
    store: Store, texts: pl.DataFrame, traces: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, subject: str
) -> Labelled:
    """Place every row of the subject's rollouts."""
    by_problem = {row["problem"]: row for row in traces.filter(pl.col("model") == subject).iter_rows(named=True)}
    text_of, position = store.index["text"].to_numpy(), store.index["position"].to_numpy()
    label = {b: np.full(len(text_of), NONE, dtype="<U9") for b in BEHAVIOURS}
    starts = np.searchsorted(text_of, np.arange(len(texts) + 1))
    for i, row in enumerate(texts.iter_rows(named=True)):
        trace = by_problem[row["problem"]] if row["model"] == subject else None
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
