"""In which order rows are read: a pure function of the seed, so that training goes on from any step."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

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
