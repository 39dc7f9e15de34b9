"""The contexts in which a latent fires hardest, for each model's texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csc_array
from transformers import PreTrainedTokenizerBase

from interp.features.codes import column
from interp.features.labelled import Labelled
from interp.names import BEHAVIOURS
from interp.traces.tokens import decode

BEFORE_PEAK, AFTER_PEAK = 16, 8
"""Tokens shown on either side of the peak."""
SCHEMA = {
    "latent": pl.Int64,
    "model": pl.String,
    "rank": pl.Int64,
    "tokens": pl.List(pl.String),
    "activations": pl.List(pl.Float64),
    "peak": pl.Int64,
    "problem": pl.String,
}


def listed(latents: pl.DataFrame, n: int) -> list[int]:
    """Confirmed latents, then exclusive ones, then the most frequent."""
    confirmed = pl.any_horizontal(f"confirmed_{b}" for b in BEHAVIOURS)
    order = latents.filter(pl.col("firing_rate") > 0).sort(
        confirmed, pl.col("exclusive_to").is_not_null(), pl.col("firing_rate"), descending=True, maintain_order=True
    )
    return order["latent"].head(n).to_list()


def contexts(
    f: csc_array, data: Labelled, chosen: list[int], tokenizer: PreTrainedTokenizerBase, per_model: int
) -> pl.DataFrame:
    """The strongest rows of each latent, at most one a text, with the tokens around them."""
    text_of, ids = data.store.index["text"].to_numpy(), data.texts["ids"].to_list()
    rows: list[dict[str, Any]] = []
    for j in chosen:
        active, values = column(f, j)
        for name in data.store.names:
            own = data.row_model[active] == name
            strongest = active[own][np.argsort(-values[own], kind="stable")]
            _, first = np.unique(text_of[strongest], return_index=True)
            for rank, at in enumerate(strongest[np.sort(first)][:per_model]):
                shown = _context(int(at), active, values, data, ids[text_of[at]], tokenizer)
                rows.append({"latent": j, "model": name, "rank": rank} | shown)
    return pl.DataFrame(rows, schema=SCHEMA)


def _context(
    at: int, active: np.ndarray, values: np.ndarray, data: Labelled, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Tokens around a row of the store; activation 0 stands also where the store keeps no row."""
    text_of, position = data.store.index["text"].to_numpy(), data.store.index["position"].to_numpy()
    peak = int(position[at])
    start, end = max(0, peak - BEFORE_PEAK), min(len(ids), peak + AFTER_PEAK + 1)
    near = slice(*np.searchsorted(active, [at - BEFORE_PEAK, at + AFTER_PEAK + 1]))
    strength = {
        int(position[r]): float(v) for r, v in zip(active[near], values[near], strict=True) if text_of[r] == text_of[at]
    }
    return {
        "tokens": [decode(tokenizer, [i]) for i in ids[start:end]],
        "activations": [strength.get(p, 0.0) for p in range(start, end)],
        "peak": peak - start,
        "problem": data.texts["problem"][int(text_of[at])],
    }
