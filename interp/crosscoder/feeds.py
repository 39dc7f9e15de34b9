"""Batches of rows, and rows held out: from rows that can be read at any place, or from a stream of them."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.rows import (
    Limits,
    Normaliser,
    RowSource,
    as_source,
    check_shape,
    chunk_rows,
    chunks,
    fingerprint,
    fit_normaliser,
    judge,
    judge_first,
    norms_of,
    refuse_few,
    refuse_many_bad,
)
from interp.errors import InterpError

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


class StreamFeed:
    """Rows that pass by, mixed in a buffer of `shuffle_rows` rows.

    The first filling of the buffer gives the statistics and the held-out rows. Then the buffer is shuffled, half of it
    is read, and it is filled again: every row is trained on once a pass, in an order whose scope is the buffer. Where
    more steps are wanted than rows last, the iterable is gone through again, if it can be.
    """

    def __init__(self, rows: Iterable[Tensor], config: CrosscoderConfig, train_config: TrainConfig):
        self._rows, self._shape, self._config = rows, config, train_config
        self._pass = self._open()
        first = self._pass.take(train_config.shuffle_rows)
        refuse_few(len(first))
        norms = norms_of(first)
        judged = judge_first(norms, train_config.outlier_ratio)
        self._limits = Limits.of(norms, train_config.outlier_ratio)
        good = judged.good.nonzero().squeeze(1)
        refuse_few(len(good))
        held_out, rest = hold_out(good, train_config.data_order_seed)
        self.n_held_out = len(held_out)
        self._is_held_out = torch.zeros(len(first), dtype=torch.bool)
        self._is_held_out[held_out] = True
        self._first, self._held_out, self._counts = first, first[held_out], [0, 0]
        self._begun = False
        self.normaliser = fit_normaliser(c.float() for c in first[rest].split(chunk_rows(first[0].numel())))
        self.fingerprint = fingerprint(first)

    @property
    def judged(self) -> tuple[int, int]:
        return self._counts[0], self._counts[1]

    def held_out(self, size: int) -> Iterator[Float[Tensor, "chunk models d_model"]]:
        return (piece.float() for piece in self._held_out.split(size))

    def batches(self, start: int) -> Iterator[Float[Tensor, "batch models d_model"]]:
        """Batches before `start` are gone through without training, since the buffer's state follows from them.

        Raises:
            InterpError: the rows are used up before the last step, and the iterable cannot be gone through again.
        """
        done = 0
        for step, batch in enumerate(self._mixed()):
            if step >= self._config.steps:
                return
            if step >= start:
                yield batch
            done = step + 1
        if done < self._config.steps:
            raise InterpError(
                f"rows: used up after {done} of {self._config.steps} steps, and an iterator cannot be started again;"
                " give fewer steps, more rows, or an object whose __iter__ starts anew"
            )

    def _mixed(self) -> Iterator[Float[Tensor, "batch models d_model"]]:
        size, rng = self._config.batch_size, seeded("mixing", self._config.data_order_seed)
        waiting = self._first[:0]
        for arrived in self._arrivals():
            buffer = torch.cat([waiting, arrived])
            buffer = buffer[torch.randperm(len(buffer), generator=rng)]
            # Half stays and is mixed with what comes; when nothing comes any more, all is read.
            n_read = (len(buffer) // 2 if len(arrived) else len(buffer)) // size * size
            yield from buffer[:n_read].split(size)
            waiting = buffer[n_read:]

    def _arrivals(self) -> Iterator[Float[Tensor, "some models d_model"]]:
        """The good rows that are not held out, pass after pass; an empty piece at the end of an iterator."""
        half = max(self._config.batch_size, self._config.shuffle_rows // 2)
        rows, place, is_first_pass = self._first, 0, not self._begun
        if self._begun:
            self._pass = self._open()
            self._pass.take(len(self._first))
        self._begun = True
        while True:
            if len(rows):
                yield self._good(rows, place, count=is_first_pass)
                place += len(rows)
                rows = self._pass.take(half)
            elif isinstance(self._rows, Iterator):
                yield rows
                return
            else:
                self._pass, place, is_first_pass = self._open(), 0, False
                rows = self._pass.take(half)

    def _good(self, rows: Tensor, place: int, *, count: bool) -> Tensor:
        judged = judge(norms_of(rows), self._limits)
        if count:
            refuse_many_bad(judged.n_bad, len(rows))
            self._counts[0] += judged.n_bad
            self._counts[1] += judged.n_outlying
        held_out = self._is_held_out[place : place + len(rows)]
        kept = judged.good.clone()
        kept[: len(held_out)] &= ~held_out
        return rows[kept]

    def _open(self) -> _Pass:
        return _Pass(self._rows, self._shape)


class _Pass:
    """One walk through the iterable, in pieces of any wanted size."""

    def __init__(self, rows: Iterable[Tensor], shape: CrosscoderConfig):
        self._pieces, self._shape = iter(rows), shape
        self._left = torch.zeros(0, shape.n_models, shape.d_model)

    def take(self, n: int) -> Float[Tensor, "some models d_model"]:
        """The next `n` rows; fewer at the end."""
        parts = [self._left] if len(self._left) else []
        have = len(self._left)
        while have < n and (piece := next(self._pieces, None)) is not None:
            check_shape(piece, self._shape)
            parts.append(piece.cpu())
            have += len(piece)
        joined = torch.cat(parts) if parts else self._left
        taken, self._left = joined[:n], joined[n:]
        return taken


HELD_OUT_LEAST = 2048


def seeded(*parts: object) -> torch.Generator:
    """A generator for one purpose: equal parts give equal draws."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def n_held_out(n_rows: int) -> int:
    """5 % of the rows, but at least 2,048, but at most a fifth."""
    return min(max(math.ceil(n_rows / 20), HELD_OUT_LEAST), n_rows // 5)


def hold_out(good: Int[Tensor, " rows"], seed: int) -> tuple[Int[Tensor, " held_out"], Int[Tensor, " rest"]]:
    """A random split of places into those held out and the others, each rising."""
    drawn = good[torch.randperm(len(good), generator=seeded("held out", seed))]
    n = n_held_out(len(good))
    return drawn[:n].sort().values, drawn[n:].sort().values


@dataclass(frozen=True)
class Order:
    """Every row once an epoch, shuffled within groups of whole shards.

    An epoch lays the shards in random order, joins neighbours until a group holds `group_rows` rows or more, and
    shuffles each group. One shard or few rows are thus shuffled as a whole; of more, no more than a group and a shard
    are ever read from at a time.
    """

    places: Int[Tensor, " rows"]
    """Rising places of the rows to read."""
    shard_ends: Sequence[int]
    group_rows: int
    seed: int

    def batches(self, batch_size: int, start: int, stop: int) -> Iterator[Int[Tensor, " batch"]]:
        """Full batches number `start` to `stop` - 1, from the epochs laid end to end.

        Within a batch places rise, which is kind to a memory-mapped file. A batch may hold the end of one epoch and
        the start of the next.
        """
        epoch, skip = divmod(start * batch_size, len(self.places))
        queue = self.places[:0]
        stream = itertools.chain.from_iterable(self._epoch(e) for e in itertools.count(epoch))
        for _ in range(start, stop):
            while len(queue) < skip + batch_size:
                if skip >= len(queue):
                    skip, queue = skip - len(queue), self.places[:0]
                queue = torch.cat([queue, next(stream)])
            yield queue[skip : skip + batch_size].sort().values
            queue, skip = queue[skip + batch_size :], 0

    def _epoch(self, epoch: int) -> Iterator[Int[Tensor, " group"]]:
        cuts = torch.searchsorted(self.places, torch.tensor(list(self.shard_ends)))
        shards = [part for part in self.places.tensor_split(cuts) if len(part)]
        rng = seeded("order", self.seed, epoch)
        group: list[Tensor] = []
        for i in torch.randperm(len(shards), generator=rng).tolist():
            group.append(shards[i])
            if sum(map(len, group)) >= self.group_rows:
                yield _shuffled(torch.cat(group), rng)
                group = []
        if group:
            yield _shuffled(torch.cat(group), rng)


def _shuffled(places: Int[Tensor, " some"], rng: torch.Generator) -> Int[Tensor, " some"]:
    return places[torch.randperm(len(places), generator=rng)]
