"""Rows of aligned residuals [N, models, d_model], wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.errors import InterpError

CHUNK_ELEMENTS = 1 << 22
"""Size of the largest tensor made on the way through all rows: 16 MB in fp32."""
LEAST_ROWS = 5
"""Of fewer, none could be held out."""
BAD_SHARE = 0.01
"""Share of rows with a NaN or an infinity past which rows are refused rather than dropped."""


@runtime_checkable
class RowSource(Protocol):
    """Rows that can be read at any place: a tensor, or a store of shards."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, int]:
        """(models, d_model)."""
        ...

    @property
    def shard_ends(self) -> Sequence[int]:
        """One past the last row of each shard: rows of one shard are near each other."""
        ...

    def read(self, places: Int[Tensor, " some"]) -> Float[Tensor, "some models d_model"]:
        """The rows at rising places, in the type they are kept in."""
        ...

    def fingerprint(self) -> str:
        """A hash of all rows."""
        ...


class TensorRows:
    """Rows that are a tensor, perhaps a memory-mapped one."""

    def __init__(self, rows: Float[Tensor, "rows models d_model"]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def row_shape(self) -> tuple[int, int]:
        return self._rows.shape[1], self._rows.shape[2]

    @property
    def shard_ends(self) -> Sequence[int]:
        return [len(self)]

    def read(self, places: Int[Tensor, " some"]) -> Float[Tensor, "some models d_model"]:
        return self._rows[places.to(self._rows.device)]

    def fingerprint(self) -> str:
        return fingerprint(self._rows)


def fingerprint(rows: Tensor) -> str:
    """sha256 of a tensor's type, shape and bytes."""
    found = hashlib.sha256(f"{rows.dtype} {list(rows.shape)}".encode())
    size = max(1, CHUNK_ELEMENTS // max(1, rows[:1].numel()))
    for start in range(0, len(rows), size):
        found.update(rows[start : start + size].cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def as_source(rows: Tensor | RowSource, config: CrosscoderConfig) -> RowSource:
    """Rows behind the one interface, checked to fit the crosscoder.

    Raises:
        InterpError: not rows of floats, or not [N, n_models, d_model].
    """
    if isinstance(rows, Tensor):
        check_shape(rows, config)
        return TensorRows(rows)
    if rows.row_shape != (config.n_models, config.d_model):
        raise InterpError(
            f"rows: shape {[len(rows), *rows.row_shape]} is not [N, {config.n_models}, {config.d_model}];"
            " set n_models and d_model to match"
        )
    return rows


def check_shape(rows: Tensor, config: CrosscoderConfig) -> None:
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


def chunk_rows(row_elements: int) -> int:
    """Rows per piece where each row makes `row_elements` numbers."""
    return max(1, CHUNK_ELEMENTS // max(1, row_elements))


def chunks(source: RowSource, places: Int[Tensor, " some"], size: int) -> Iterator[Float[Tensor, "chunk models d"]]:
    """The rows at rising places as fp32 pieces of at most `size` rows."""
    for piece in places.split(size):
        yield source.read(piece).float()


class Limits(NamedTuple):
    """Above which norm a model's row is outlying; infinite where nothing is."""

    norm: Float[Tensor, " models"]

    @classmethod
    def of(cls, norms: Float[Tensor, "rows models"], ratio: float) -> Limits:
        """`ratio` times the median norm of each model, over rows without NaN or infinity."""
        median = norms[norms.isfinite().all(1)].median(dim=0).values
        return cls(torch.where(median > 0, ratio * median, torch.inf))


class Judged(NamedTuple):
    """Which rows are trained on, and why the others are not."""

    good: Bool[Tensor, " rows"]
    n_bad: int
    """Rows with a NaN or an infinity."""
    n_outlying: int
    """Rows whose norm is above the limit in any model."""


def judge(norms: Float[Tensor, "rows models"], limits: Limits) -> Judged:
    """Sort rows by their models' norms."""
    finite = norms.isfinite().all(1)
    outlying = finite & (norms > limits.norm).any(1)
    return Judged(finite & ~outlying, int((~finite).sum()), int(outlying.sum()))


def refuse_many_bad(n_bad: int, n_rows: int) -> None:
    """A few rows with NaN or infinity are dropped; many mean that something is broken.

    Raises:
        InterpError: more than BAD_SHARE of the rows.
    """
    if n_bad > BAD_SHARE * n_rows:
        raise InterpError(
            f"rows: {n_bad} of {n_rows} hold NaN or infinite values, more than {BAD_SHARE:.0%}; harvest them again,"
            " in bfloat16 or float32"
        )


def norms_of(rows: Float[Tensor, "rows models d_model"]) -> Float[Tensor, "rows models"]:
    """Each row's norm in each model, on the CPU; not finite where a coordinate is not, however large the row."""
    return rows.double().norm(dim=2).float().cpu()


def judge_first(norms: Float[Tensor, "rows models"], ratio: float) -> Judged:
    refuse_many_bad(int((~norms.isfinite().all(1)).sum()), len(norms))
    return judge(norms, Limits.of(norms, ratio))


def refuse_few(n: int) -> None:
    if n < LEAST_ROWS:
        raise InterpError(f"rows: {n} are too few to hold any out; give at least {LEAST_ROWS}")


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
