"""What brings every model's rows to the same footing, from fp64 sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InterpError


class Normaliser(NamedTuple):
    """What turns rows into x̂ = (x - mean) * scale."""

    mean: Float[Tensor, "models d_model"]
    """Mean row of each model, in input units."""
    scale: Float[Tensor, " models"]
    """One factor a model, after which the mean squared norm of its centred rows is d_model."""


def fit_normaliser(chunks: Iterable[Tensor]) -> Normaliser:
    """Mean and scale over all rows of the chunks [any number, models, d_model], in one pass.

    Raises:
        InterpError: a model whose rows are all the same.
    """
    n, origin = 0, None
    total = squares = torch.zeros(())
    for chunk in chunks:
        if origin is None:
            # Shifted by one of the rows, so that a large common offset does not cancel in the sum of squares.
            origin = chunk[0].double()
            total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
        moved = chunk.double() - origin
        total, squares, n = total + moved.sum(0), squares + moved.square().sum(0), n + len(chunk)
    if origin is None:
        raise InterpError("rows: there are none to train on; give more")
    offset = total / n
    mean_squared_norm = (squares / n - offset.square()).sum(1)
    for model, value in enumerate(mean_squared_norm.tolist()):
        if value <= 0:
            raise InterpError(f"rows: model {model} never varies; check that its activations were harvested")
    scale = (origin.shape[1] / mean_squared_norm).sqrt()
    return Normaliser((origin + offset).float().cpu(), scale.float().cpu())
