"""Rows [N, M, D] read piecemeal, so that they may lie in a memory-mapped file of any float type."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.errors import InterpError

HELD_OUT_LEAST = 2048
CHUNK_ELEMENTS = 1 << 22
"""Size of the largest tensor made on the way through all rows: 16 MB in fp32."""


class Normaliser(NamedTuple):
    """What turns rows into x̂ = (x - mean) * scale."""

    mean: Float[Tensor, "models d_model"]
    """Mean row of each model, in input units."""
    scale: Float[Tensor, " models"]
    """One factor a model, after which the mean squared norm of its centred rows is d_model."""


class Split(NamedTuple):
    """Places of rows; every row is in one of the two."""

    train: Int[Tensor, " train"]
    held_out: Int[Tensor, " held_out"]
    """5 % of the rows, but at least 2,048, but at most a fifth."""


def check_rows(rows: Tensor, config: CrosscoderConfig) -> None:
    """Refuse rows that do not fit the crosscoder.

    Raises:
        InterpError: not a float tensor of shape [N, n_models, d_model].
    """
    wanted = (config.n_models, config.d_model)
    if rows.ndim != 3 or tuple(rows.shape[1:]) != wanted:
        raise InterpError(
            f"rows: shape {list(rows.shape)} is not [N, {wanted[0]}, {wanted[1]}]; set n_models and d_model to match"
        )
    if not rows.is_floating_point():
        raise InterpError(f"rows: {rows.dtype} is not a float type; convert them first")


def split_rows(n_rows: int, generator: torch.Generator) -> Split:
    """A random split into training and held-out rows, each in rising order.

    Raises:
        InterpError: fewer than five rows, of which none could be held out.
    """
    n_held_out = min(max(math.ceil(n_rows / 20), HELD_OUT_LEAST), n_rows // 5)
    if n_held_out < 1:
        raise InterpError(f"rows: {n_rows} are too few to hold any out; give at least 5")
    order = torch.randperm(n_rows, generator=generator)
    return Split(order[n_held_out:].sort().values, order[:n_held_out].sort().values)


def batches(
    places: Int[Tensor, " rows"], batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[Int[Tensor, " batch"]]:
    """`steps` full batches of places, from one permutation an epoch laid end to end.

    Every place comes exactly once an epoch; a batch may hold the end of one epoch and the start of the next. Within a
    batch places rise, which is kind to a memory-mapped file.
    """
    queue = places[:0]
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = torch.cat([queue, places[torch.randperm(len(places), generator=generator)]])
        yield queue[:batch_size].sort().values
        queue = queue[batch_size:]


def finite_chunks(
    rows: Float[Tensor, "rows models d_model"], size: int
) -> Iterator[tuple[int, Float[Tensor, "chunk models d_model"]]]:
    """All rows in order as fp32 pieces of at most `size` rows, each with the place of its first row.

    Raises:
        InterpError: after the last piece, where any row held a NaN or an infinity; says how many did.
    """
    n_bad = 0
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size].float()
        n_bad += int((~chunk.isfinite()).flatten(1).any(1).sum())
        yield start, chunk
    if n_bad:
        raise InterpError(f"rows: {n_bad} of {len(rows)} hold NaN or infinite values; drop them before training")


def chunk_rows(row_elements: int) -> int:
    """Rows per piece where each row makes `row_elements` numbers."""
    return max(1, CHUNK_ELEMENTS // row_elements)


def fit_normaliser(rows: Float[Tensor, "rows models d_model"], train: Int[Tensor, " train"]) -> Normaliser:
    """Mean and scale over the rows at `train`, in one pass with fp64 sums; the pass also looks at the other rows.

    Raises:
        InterpError: non-finite rows (of all rows), or a model whose rows are all the same.
    """
    chosen: Bool[Tensor, " rows"] = torch.zeros(len(rows), dtype=torch.bool)
    chosen[train] = True
    # Shifted by one of the rows, so that a large common offset does not cancel in the sum of squares.
    origin = rows[int(train[0])].double()
    total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
    for start, chunk in finite_chunks(rows, chunk_rows(origin.numel())):
        moved = chunk[chosen[start : start + len(chunk)].to(chunk.device)].double() - origin
        total += moved.sum(0)
        squares += moved.square().sum(0)
    offset = total / len(train)
    mean_squared_norm = (squares / len(train) - offset.square()).sum(1)
    for model, value in enumerate(mean_squared_norm.tolist()):
        if value <= 0:
            raise InterpError(f"rows: model {model} never varies; check that its activations were harvested")
    scale = (origin.shape[1] / mean_squared_norm).sqrt()
    return Normaliser((origin + offset).float(), scale.float())
