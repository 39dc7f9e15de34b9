"""Rows of aligned residuals [N, models, d_model]: access, checks, statistics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.errors import InterpError

CHUNK_ELEMENTS = 1 << 22
"""Most numbers in a piece of the rows or of their code: 16 MB in fp32."""
HELD_OUT_LEAST, HELD_OUT_MOST = 2048, 1 << 17
LEAST_ROWS = 5
"""With fewer rows none can be held out."""
BAD_SHARE = 0.01
"""Share of rows with a NaN or an infinity above which all are refused, not these dropped."""


@runtime_checkable
class RowSource(Protocol):
    """Rows with random access: a tensor, or a store of shards."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, int]:
        """(models, d_model)."""
        ...

    @property
    def shard_ends(self) -> Sequence[int]:
        """One past the last row of each shard; rows of one shard are near each other on disk."""
        ...

    def read(self, places: Int[Tensor, " some"]) -> Float[Tensor, "some models d_model"]:
        """The rows at rising places, in the stored dtype."""
        ...

    def fingerprint(self) -> str:
        """A hash of all rows."""
        ...


@runtime_checkable
class SplitRows(RowSource, Protocol):
    """Rows whose split into training and held-out rows is given, such as one by problem."""

    def held_out_places(self) -> Int[Tensor, " held_out"] | None:
        """Rising places of the held-out rows; None where there is no split, and random rows are held out."""
        ...


class TensorRows:
    """Rows that are a tensor, perhaps a memory-mapped one; `held_out` marks those that are never trained on."""

    def __init__(self, rows: Float[Tensor, "rows models d_model"], held_out: Bool[Tensor, " rows"] | None = None):
        self._rows, self._held_out = rows, held_out

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

    def held_out_places(self) -> Int[Tensor, " held_out"] | None:
        return None if self._held_out is None else self._held_out.nonzero().squeeze(1)

    def fingerprint(self) -> str:
        own = fingerprint(self._rows)
        return own if self._held_out is None else f"{own} {fingerprint(self._held_out)}"


def fingerprint(rows: Tensor) -> str:
    """sha256 of a tensor's type, shape and bytes."""
    found = hashlib.sha256(f"{rows.dtype} {list(rows.shape)}".encode())
    size = max(1, CHUNK_ELEMENTS // max(1, rows[:1].numel()))
    for start in range(0, len(rows), size):
        found.update(rows[start : start + size].cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def as_source(rows: Tensor | RowSource, config: CrosscoderConfig) -> RowSource:
    """The rows as a `RowSource` whose shape fits the crosscoder.

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
    """Largest norm of a row of each model that is not an outlier; infinite where there is no limit."""

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
    """Which rows are good, by the norms of all their models."""
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
    pieces = rows.split(chunk_rows(rows[:1].numel()))
    return torch.cat([piece.double().norm(dim=2).float().cpu() for piece in pieces])


def judge_first(norms: Float[Tensor, "rows models"], ratio: float) -> Judged:
    refuse_many_bad(int((~norms.isfinite().all(1)).sum()), len(norms))
    return judge(norms, Limits.of(norms, ratio))


def refuse_few(n: int) -> None:
    if n < LEAST_ROWS:
        raise InterpError(f"rows: {n} are too few to hold any out; give at least {LEAST_ROWS}")


def seeded(*parts: object) -> torch.Generator:
    """A generator for one purpose: equal parts give equal draws."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def n_held_out(n_rows: int) -> int:
    """5 % of the rows, but at least 2,048, but at most a fifth, and never more than 131,072."""
    return min(max(math.ceil(n_rows / 20), HELD_OUT_LEAST), n_rows // 5, HELD_OUT_MOST)


def split(
    good: Bool[Tensor, " rows"], given: Int[Tensor, " given"] | None, seed: int
) -> tuple[Int[Tensor, " held_out"], Int[Tensor, " train"]]:
    """Places of the rows that are measured on and of those that are trained on, each rising; bad rows are neither.

    `given` are the places of the rows that are held out, of which at most 131,072 are measured on (a random choice) and
    none is trained on; None holds out `n_held_out` random rows.

    Raises:
        InterpError: too few good rows, or none on one side of the given split.
    """
    places = good.nonzero().squeeze(1)
    refuse_few(len(places))
    rng = seeded("held out", seed)
    if given is None:
        drawn = places[torch.randperm(len(places), generator=rng)]
        n = n_held_out(len(places))
        return drawn[:n].sort().values, drawn[n:].sort().values
    marked = torch.zeros_like(good)
    marked[given] = True
    held_out, train = (good & marked).nonzero().squeeze(1), (good & ~marked).nonzero().squeeze(1)
    if not len(held_out) or not len(train):
        raise InterpError(
            f"rows: the given split leaves {len(train)} rows to train on and {len(held_out)} held out;"
            " give at least one of each (more problems, or a larger shuffle_rows for a stream)"
        )
    chosen = torch.randperm(len(held_out), generator=rng)[:HELD_OUT_MOST]
    return held_out[chosen].sort().values, train


class Normaliser(NamedTuple):
    """Mean and scale of x̂ = (x - mean) * scale."""

    mean: Float[Tensor, "models d_model"]
    """Mean row of each model, in input units."""
    scale: Float[Tensor, " models"]
    """One factor per model that makes the mean squared norm of its centred rows d_model."""


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
