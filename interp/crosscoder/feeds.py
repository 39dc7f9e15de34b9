"""Batches of rows, and rows held out: from rows that can be read at any place, or from a stream of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.rows import (
    Limits,
    Normaliser,
    RowSource,
    SplitRows,
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
    seeded,
    split,
)
from interp.errors import InterpError

_NOT_AGAIN = (
    "rows: the iterable gave rows on its first pass and too few or none when it was started again;"
    " give an object whose __iter__ starts anew, or fewer steps"
)
Piece = Tensor | tuple[Tensor, Tensor]
Rows = Tensor | RowSource | Iterable[Piece]


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
    """The feed of the rows given to `train`.

    Raises:
        InterpError: rows of another shape or type, too few, or too many that are not finite.
    """
    if isinstance(rows, (Tensor, RowSource)):
        return IndexedFeed(as_source(rows, config), train_config)
    return StreamFeed(rows, config, train_config)


class IndexedFeed:
    """Rows that can be read at any place, each once per epoch.

    Rows are mixed within a group of shards that holds `shuffle_rows` rows, not between groups: a store whose shards
    differ in kind (sorted by model, say) gives batches that do too, so shuffle texts before they are stored.
    """

    def __init__(self, source: RowSource, config: TrainConfig):
        self._source, self._config = source, config
        size, everywhere = chunk_rows(source.row_shape[0] * source.row_shape[1]), torch.arange(len(source))
        refuse_few(len(source))
        self.fingerprint = source.fingerprint()  # before the rows are read: it finds damage and names it
        norms = torch.cat([norms_of(chunk) for chunk in chunks(source, everywhere, size)])
        self._judged = judge_first(norms, config.outlier_ratio)
        given = source.held_out_places() if isinstance(source, SplitRows) else None
        self._held_out, train = split(self._judged.good, given, config.data_order_seed)
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
    """Rows of an iterable, mixed in a buffer of `shuffle_rows` rows in main memory.

    A piece is a tensor [some, models, d_model], or a pair of it and a mask [some] of the rows that are held out; all
    pieces have one dtype. The first `shuffle_rows` rows give the statistics and the held-out rows: those of the mask,
    or a random 5 %. Then half of the buffer is read in random order, and it is filled again: every row is trained on
    once per pass. Where more steps are wanted than rows last, the iterable is started again.

    Rows are mixed over about one buffer, no further: the first buffer must be like the rest, and a stream sorted by
    model or by length must be shuffled before it comes here.
    """

    def __init__(self, rows: Iterable[Piece], config: CrosscoderConfig, train_config: TrainConfig):
        self._rows, self._shape, self._config = rows, config, train_config
        self._pass = self._open()
        self._buffer = _Buffer(buffer_rows(train_config))
        given = torch.cat([torch.zeros(0, dtype=torch.bool), *self._first_buffer()])
        refuse_few(len(given))
        first = self._buffer.rows[: len(given)]
        norms = norms_of(first)
        judged = judge_first(norms, train_config.outlier_ratio)
        self._limits = Limits.of(norms, train_config.outlier_ratio)
        places = given.nonzero().squeeze(1) if self._pass.is_split else None
        held_out, train = split(judged.good, places, train_config.data_order_seed)
        self.n_held_out, self._n_first = len(held_out), len(given)
        self._is_held_out = given
        self._is_held_out[held_out] = True
        self._held_out, self._counts = first[held_out], [0, 0]
        self.normaliser = fit_normaliser(first[some].float() for some in train.split(chunk_rows(first[0].numel())))
        self.fingerprint = fingerprint(first)
        self._begun = False

    @property
    def judged(self) -> tuple[int, int]:
        return self._counts[0], self._counts[1]

    def held_out(self, size: int) -> Iterator[Float[Tensor, "chunk models d_model"]]:
        return (piece.float() for piece in self._held_out.split(size))

    def batches(self, start: int) -> Iterator[Float[Tensor, "batch models d_model"]]:
        """Batches before `start` are read and not yielded, since the buffer's state follows from them.

        Raises:
            InterpError: the rows are used up before the last step, and the iterable cannot be started again.
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

    def _first_buffer(self) -> Iterator[Bool[Tensor, " some"]]:
        """Fill the buffer with the first `shuffle_rows` rows, good or bad, and yield which of them are held out."""
        self._buffer.clear()
        for rows, held_out in self._pass.take(self._config.shuffle_rows):
            self._buffer.put(rows)
            yield held_out

    def _mixed(self) -> Iterator[Float[Tensor, "batch models d_model"]]:
        size, rng = self._config.batch_size, seeded("mixing", self._config.data_order_seed)
        waiting = torch.zeros(0, dtype=torch.long)
        for arrived in self._arrivals():
            order = torch.cat([waiting, arrived])
            order = order[torch.randperm(len(order), generator=rng)]
            # Half stays and is mixed with later rows; at the end of an iterator all are read.
            n_read = (len(order) // 2 if len(arrived) else len(order)) // size * size
            for places in order[:n_read].split(size):
                yield self._buffer.rows[places]
            self._buffer.free(order[:n_read])
            waiting = order[n_read:]

    def _arrivals(self) -> Iterator[Int[Tensor, " some"]]:
        """Places in the buffer of new rows that are good and not held out, pass after pass; none at the end of an
        iterator.

        Raises:
            InterpError: a pass after the first yields no rows to train on.
        """
        if self._begun:
            self._pass = self._open()
            if isinstance(self._rows, Iterator) or sum(map(len, self._first_buffer())) != self._n_first:
                raise InterpError(_NOT_AGAIN)
        arrived, counts = self._judge_first_buffer(count=not self._begun), not self._begun
        self._begun = True
        n_of_pass = 0
        while True:
            if len(arrived):
                yield arrived
            n_of_pass += len(arrived)
            n_rows, arrived = self._next_half(count=counts)
            if n_rows:
                continue
            if isinstance(self._rows, Iterator):
                yield arrived
                return
            if not n_of_pass:
                raise InterpError(_NOT_AGAIN)
            self._pass, counts, n_of_pass = self._open(), False, 0
            n_rows, arrived = self._next_half(count=counts)
            if not n_rows:
                raise InterpError(_NOT_AGAIN)

    def _judge_first_buffer(self, *, count: bool) -> Int[Tensor, " some"]:
        rows = self._buffer.rows[: self._buffer.n]
        good = self._good(rows, self._is_held_out, count)
        self._buffer.free((~good).nonzero().squeeze(1))
        return good.nonzero().squeeze(1)

    def _next_half(self, *, count: bool) -> tuple[int, Int[Tensor, " some"]]:
        """Read half a buffer of rows; how many, and the places of those that are trained on."""
        n_rows, places = 0, [torch.zeros(0, dtype=torch.long)]
        before = self._counts[0]
        for rows, held_out in self._pass.take(_half(self._config)):
            first = self._is_held_out[self._pass.place - len(rows) : self._pass.place]
            held_out[: len(first)] |= first
            places.append(self._buffer.put(rows[self._good(rows, held_out, count)]))
            n_rows += len(rows)
        if count:
            refuse_many_bad(self._counts[0] - before, n_rows)
        return n_rows, torch.cat(places)

    def _good(self, rows: Tensor, held_out: Tensor, count: bool) -> Bool[Tensor, " rows"]:
        judged = judge(norms_of(rows), self._limits)
        if count:
            self._counts[0] += judged.n_bad
            self._counts[1] += judged.n_outlying
        return judged.good & ~held_out

    def _open(self) -> _Pass:
        return _Pass(self._rows, self._shape)


def buffer_rows(config: TrainConfig) -> int:
    """Most rows that a stream's buffer holds: at most half of them and a batch wait while half a buffer arrives."""
    return max(config.shuffle_rows, 2 * (_half(config) + config.batch_size))


def _half(config: TrainConfig) -> int:
    return max(config.batch_size, config.shuffle_rows // 2)


class _Buffer:
    """Rows at places that are free or taken; memory is taken from the system as places are first filled."""

    def __init__(self, capacity: int):
        self._capacity = capacity
        self.rows = torch.zeros(0)
        self.clear()

    def clear(self) -> None:
        """Free all places."""
        self.n, self._free = 0, torch.zeros(0, dtype=torch.long)

    def put(self, rows: Float[Tensor, "some models d_model"]) -> Int[Tensor, " some"]:
        """Copy rows to free places, and return these."""
        if not len(self.rows):
            self.rows = torch.empty(self._capacity, *rows.shape[1:], dtype=rows.dtype)
        if rows.dtype != self.rows.dtype:
            raise InterpError(f"rows: pieces of {self.rows.dtype} and of {rows.dtype}; give one type")
        n_new = max(0, len(rows) - len(self._free))
        places = torch.cat([self._free[: len(rows)], torch.arange(self.n, self.n + n_new)])
        self.rows[places] = rows
        self._free, self.n = self._free[len(rows) :], self.n + n_new
        return places

    def free(self, places: Int[Tensor, " some"]) -> None:
        """Let these places be filled again."""
        self._free = torch.cat([self._free, places])


class _Pass:
    """One walk through the iterable, in pieces of at most the wanted number of rows."""

    def __init__(self, rows: Iterable[Piece], shape: CrosscoderConfig):
        self._pieces, self._shape = iter(rows), shape
        self._left: tuple[Tensor, Tensor] | None = None
        self.place = 0
        """Rows taken so far."""
        self.is_split = False
        """Whether a piece came with a mask of held-out rows."""

    def take(self, n: int) -> Iterator[tuple[Float[Tensor, "some models d_model"], Bool[Tensor, " some"]]]:
        """The next `n` rows and whether each is held out by the mask; fewer at the end."""
        while n > 0 and (piece := self._next()) is not None:
            rows, held_out = piece
            if len(rows) > n:
                self._left = rows[n:], held_out[n:]
            rows, held_out = rows[:n], held_out[:n].clone()
            self.place, n = self.place + len(rows), n - len(rows)
            yield rows, held_out

    def _next(self) -> tuple[Tensor, Tensor] | None:
        if self._left is not None:
            piece, self._left = self._left, None
            return piece
        if (piece := next(self._pieces, None)) is None:
            return None
        rows, held_out = piece if isinstance(piece, tuple) else (piece, torch.zeros(len(piece), dtype=torch.bool))
        check_shape(rows, self._shape)
        if held_out.dtype != torch.bool or held_out.shape != rows.shape[:1]:
            raise InterpError(
                f"rows: the mask of held-out rows is {held_out.dtype} {list(held_out.shape)}, not bool [{len(rows)}]"
            )
        self.is_split |= isinstance(piece, tuple)
        return rows.cpu(), held_out.cpu()


@dataclass(frozen=True)
class Order:
    """Every row once per epoch, shuffled within groups of whole shards.

    An epoch puts the shards in random order, joins neighbours until a group holds `group_rows` rows or more, and
    shuffles each group. One shard or few rows are thus shuffled as a whole; at any time no more than a group and a
    shard are read from.
    """

    places: Int[Tensor, " rows"]
    """Rising places of the rows to read."""
    shard_ends: Sequence[int]
    group_rows: int
    seed: int

    def batches(self, batch_size: int, start: int, stop: int) -> Iterator[Int[Tensor, " batch"]]:
        """Full batches number `start` to `stop` - 1 of the concatenated epochs.

        Within a batch places rise, so that a memory-mapped file is read forwards. A batch may hold the end of one epoch
        and the start of the next.
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
