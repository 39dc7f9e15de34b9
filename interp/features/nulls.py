"""What a claim that a latent is one model's alone is worth in this study: how many latents are claimed between models
of which none, or every, latent is exclusive, by crosscoders of the same shape and recipe on the same tokens.

Between a model and itself, or itself with the noise of bf16, every claim is false. Between the base and its control
fine-tune, claims are of what any fine-tuning does. Between models that read different tokens nothing is shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
from interp.features.codes import encode_sparse
from interp.features.specificity import exclusive

NOISE = 2**-8
"""Relative noise, about the largest rounding error of bf16."""
SCHEMA = {
    "first": pl.String,
    "second": pl.String,
    "why": pl.String,
    "alive": pl.Int64,
    "by_norm": pl.Int64,
    "exclusive": pl.Int64,
    "l0": pl.Float64,
    "fve": pl.Float64,
    "rows": pl.Int64,
}
"""Columns of `nulls.parquet`. `by_norm` and `exclusive`: latents claimed for either model by decoder norms, and of
these after Latent Scaling. `fve`: of the model that is explained less."""

N_PAIRS = 5
"""Most comparisons of `pairs`."""
Rows = Float[Tensor, "rows d_model"]


def pairs(
    base: Rows, subject: Rows, control: Rows | None, seed: int
) -> Iterator[tuple[str, str, str, Float[Tensor, "rows 2 d_model"]]]:
    """(first model, second model, what it shows, rows of both): the comparison itself, and the nulls."""
    generator = torch.Generator().manual_seed(seed)
    yield "base", "distilled", "the comparison itself", torch.stack([base, subject], 1)
    yield "distilled", "distilled", "every claim is false", torch.stack([subject, subject], 1)
    noisy = [(x.float() * (1 + NOISE * torch.randn(x.shape, generator=generator))).to(x) for x in (subject, subject)]
    yield "distilled", "distilled, bf16 noise", "every claim is false", torch.stack(noisy, 1)
    if control is not None:
        yield "base", "control", "what any fine-tuning does", torch.stack([base, control], 1)
    other = subject[torch.randperm(len(subject), generator=generator)]
    yield "base", "distilled, other tokens", "nothing is shared", torch.stack([base, other], 1)


def claimed(
    rows: Float[Tensor, "rows 2 d_model"], shape: CrosscoderConfig, recipe: TrainConfig, device: torch.device
) -> dict[str, Any]:
    """Train between two models and count the claims; the numbers of SCHEMA."""
    (done,) = train_many(rows, [(shape, recipe)], device=device)
    cc = done.crosscoder
    f = encode_sparse(cc, rows)
    found = exclusive(cc, rows, f)
    return {
        "alive": int((np.diff(f.indptr) > 0).sum()),
        "by_norm": int(found.by_norm.sum()),
        "exclusive": int(found.after_scaling.sum()),
        "l0": done.held_out.l0,
        "fve": min(done.held_out.fve),
        "rows": len(rows),
    }
