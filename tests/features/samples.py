"""Labelled rows of three models, made up, beside the store that holds them."""

import numpy as np
import polars as pl
import torch

from interp.activations.store import StoreWriter, open_store
from interp.features.labelled import Labelled
from interp.names import BEHAVIOURS

NAMES = ["base", "distilled", "zero_rl"]


def labelled(folder, x, lengths, skip_first=0, models=NAMES, label=None):
    """`x` are the rows of texts of these lengths; text t is of model t modulo their number and of its own problem."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [[(7 * t + p) % 19 + 3 for p in range(n)] for t, n in enumerate(lengths)]
    index = pl.DataFrame(
        [
            {"text": t, "position": p, "token": ids[t][p], "written_by": 1 << t % len(models)}
            for t, n in enumerate(lengths)
            for p in range(skip_first, n)
        ]
    )
    assert len(index) == len(x)
    writer = StoreWriter(folder, list(models), "blocks.1.hook_resid_post", 10_000)
    writer.add(x)
    writer.close(index)
    texts = pl.DataFrame(
        {
            "ids": ids,
            "model": [models[t % len(models)] for t in range(len(lengths))],
            "problem": [f"p{t}" for t in range(len(lengths))],
            "completion_start": [1] * len(lengths),
        }
    )
    text_of = index["text"].to_numpy()
    store = open_store(folder)
    return Labelled(
        store,
        store.tensor(),
        texts,
        "distilled",
        texts["model"].to_numpy()[text_of],
        texts["problem"].to_numpy()[text_of],
        label or {b: np.full(len(x), "elsewhere", dtype="<U9") for b in BEHAVIOURS},
    )


def sparse_rows(n, m=3, d=16, seed=0):
    return 3 * torch.randn(n, m, d, generator=torch.Generator().manual_seed(seed))
