"""Where batches come from: rows that lie somewhere, or rows that pass by once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.normaliser import Normaliser, fit_normaliser
from interp.crosscoder.order import Order, hold_out
from interp.crosscoder.rows import (
    RowSource,
    as_source,
    chunk_rows,
    chunks,
    judge_first,
    norms_of,
    refuse_few,
)
from interp.crosscoder.stream import StreamFeed

Rows = Tensor | RowSource | Iterable[Tensor]


@runtime_checkable
class Feed(Protocol):
    """Batches of raw rows, their statistics, and rows held out."""

    normaliser: Normaliser
    fingerprint: str
    """Hash of the data."""
    n_held_out: int

    @property
    def judged(self) -> tuple[int, int]:
        """(rows dropped for NaN or infinity, rows left out for their norm) so far."""
        ...

    def batches(self, start: int) -> Iterator[Float[Tensor, "batch models d_model"]]:
        """Batches from step `start` (0 is the first) to the last step."""
        ...

    def held_out(self, size: int) -> Iterator[Float[Tensor, "chunk models d_model"]]:
        """The held-out rows, as fp32 pieces of at most `size`."""
        ...


def open_feed(rows: Rows, config: CrosscoderConfig, train_config: TrainConfig) -> Feed:
    """The feed for what `train` was given.

    Raises:
        InterpError: rows of another shape or type, too few, or too many that are not finite.
    """
    if isinstance(rows, (Tensor, RowSource)):
        return IndexedFeed(as_source(rows, config), train_config)
    return StreamFeed(rows, config, train_config)


class IndexedFeed:
    """Rows that can be read at any place, every one once an epoch."""

    def __init__(self, source: RowSource, config: TrainConfig):
        self._source, self._config = source, config
        size, everywhere = chunk_rows(source.row_shape[0] * source.row_shape[1]), torch.arange(len(source))
        refuse_few(len(source))
        self.fingerprint = source.fingerprint()  # before the rows are read: it finds damage by its name
        norms = torch.cat([norms_of(chunk) for chunk in chunks(source, everywhere, size)])
        self._judged = judge_first(norms, config.outlier_ratio)
        good = self._judged.good.nonzero().squeeze(1)
        refuse_few(len(good))
        self._held_out, train = hold_out(good, config.data_order_seed)
        self.n_held_out = len(self._held_out)
        self._order = Order(train, source.shard_ends, config.shuffle_rows, config.data_order_seed)
        self.normaliser = fit_normaliser(chunks(source, train, size))

    @property
    def judged(self) -> tuple[int, int]:
        return self._judged.n_bad, self._judged.n_outlying

    def batches(self, start: int) -> Iterator[Float[Tensor, "batch models d_model"]]:
        for places in self._order.batches(self._config.batch_size, start, self._config.steps):
            yield self._source.read(places)

    def held_out(self, size: int) -> Iterator[Float[Tensor, "chunk models d_model"]]:
        return chunks(self._source, self._held_out, size)
