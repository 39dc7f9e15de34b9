"""Rows that pass by: a feed without a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.normaliser import fit_normaliser
from interp.crosscoder.order import hold_out, seeded
from interp.crosscoder.rows import (
    Limits,
    check_shape,
    chunk_rows,
    fingerprint,
    judge,
    judge_first,
    norms_of,
    refuse_few,
    refuse_many_bad,
)
from interp.errors import InterpError


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
