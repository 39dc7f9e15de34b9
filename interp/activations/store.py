"""The store of aligned residuals: bf16 shards [rows, models, d_model], memory-mapped, with an index of the rows."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.errors import InterpError
from interp.folders import digest, file_digest
from interp.memory import main_memory
from interp.models.hooks import Site

BYTES = 2
"""Bytes of one stored number (bf16)."""


class StoreWriter:
    """Collects rows and writes them in shards of equal size."""

    def __init__(self, folder: Path, names: list[str], site: str, shard_rows: int):
        self.folder, self.names, self.site, self.shard_rows = folder, names, site, shard_rows
        self._pending: list[Float[Tensor, "rows models d_model"]] = []
        self._pending_rows = self._d_model = self.rows = 0
        self._lengths: list[int] = []
        self._hashes: list[str] = []

    def add(self, rows: Float[Tensor, "rows models d_model"]) -> None:
        """Append rows, in the order of the index."""
        self._pending.append(rows.to(torch.bfloat16).cpu())
        self._d_model = rows.shape[2]
        self._pending_rows += len(rows)
        while self._pending_rows >= self.shard_rows:
            self._write(self.shard_rows)

    def close(self, index: pl.DataFrame) -> None:
        """Write the last shard, the index (one row per row of the store) and the metadata."""
        if self._pending_rows:
            self._write(self._pending_rows)
        index.write_parquet(self.folder / "index.parquet")
        metadata = {
            "models": self.names,
            "site": self.site,
            "d_model": self._d_model,
            "shard_rows": self._lengths,
            "sha256": self._hashes,
        }
        (self.folder / "store.json").write_text(json.dumps(metadata, indent=1))

    def _write(self, n: int) -> None:
        joined = torch.cat(self._pending)
        path = self.folder / shard_name(len(self._lengths))
        save_file({"resid": joined[:n].contiguous()}, path)
        self._pending, self._pending_rows = [joined[n:]], len(joined) - n
        self._lengths.append(n)
        self._hashes.append(file_digest(path))
        self.rows += n


@dataclass(frozen=True)
class Store:
    """A finished store: rows [rows, models, d_model] that can be read at any places, or all at once."""

    folder: Path
    names: list[str]
    site: str
    d_model: int
    shard_rows: list[int]
    """Rows of each shard."""
    sha256: list[str]
    """Hash of each shard's file."""

    def __len__(self) -> int:
        return sum(self.shard_rows)

    @cached_property
    def index(self) -> pl.DataFrame:
        """One row per row of the store: `text` (number in `texts.parquet`), `position` in the text's `ids`, `token`,
        `written_by` (bitmask: bit m is set where a rollout of model m has the same prefix) and `held_out`."""
        return pl.read_parquet(self.folder / "index.parquet", glob=False)

    @property
    def place(self) -> Site:
        """Where the residuals were read."""
        return Site.parse(self.site)

    @property
    def row_shape(self) -> tuple[int, int]:
        """(models, d_model)."""
        return len(self.names), self.d_model

    @property
    def shard_ends(self) -> list[int]:
        """One past the last row of each shard."""
        return list(itertools.accumulate(self.shard_rows))

    def held_out_places(self) -> Int[Tensor, " held_out"]:
        """Numbers of the rows of held-out problems, rising: nothing is trained on them.

        Raises:
            InterpError: the store was written before rows were split by problem.
        """
        if "held_out" not in self.index.columns:
            raise InterpError(
                f"{self.folder}: its rows are not split by problem; run `interp activations` again with --force"
            )
        return torch.from_numpy(self.index["held_out"].to_numpy().nonzero()[0])

    def read(self, places: Int[Tensor, " some"]) -> Float[Tensor, "some models d_model"]:
        """The rows at rising places, in bf16; only their pages of the memory-mapped shards are read."""
        ends = torch.tensor(self.shard_ends)
        parts = places.tensor_split(torch.searchsorted(places, ends))
        starts = [0, *self.shard_ends]
        return torch.cat([self._shards[i][part - starts[i]] for i, part in enumerate(parts) if len(part)])

    def fingerprint(self) -> str:
        """A hash of all rows.

        Raises:
            InterpError: a shard differs from what was written; it is named.
        """
        for i, wanted in enumerate(self.sha256):
            path = self.folder / shard_name(i)
            if not path.is_file():
                raise _damaged(path, "it is missing", self.folder)
            if file_digest(path) != wanted:
                raise _damaged(path, "it differs from what was written", self.folder)
        return digest(self.sha256)

    def tensor(self) -> Float[Tensor, "rows models d_model"]:
        """All rows. One shard is memory-mapped; several are read into memory.

        Raises:
            InterpError: a shard is damaged, or the store is larger than half of the memory.
        """
        if len(self._shards) == 1:
            return self._shards[0]
        needed, memory = len(self) * math.prod(self.row_shape) * BYTES, main_memory().total
        if needed > memory / 2:
            raise InterpError(
                f"{self.folder}: {needed / 1e9:.1f} GB of residuals do not fit into half of the memory "
                f"({memory / 2e9:.1f} GB); take fewer problems"
            )
        return torch.cat(self._shards)

    @cached_property
    def _shards(self) -> list[Float[Tensor, "rows models d_model"]]:
        """The shards, memory-mapped."""
        if not self.shard_rows:
            raise InterpError(f"{self.folder}: no rows; lower activations.skip_first, or give longer texts")
        return [self._shard(i) for i in range(len(self.shard_rows))]

    def _shard(self, i: int) -> Float[Tensor, "rows models d_model"]:
        path = self.folder / shard_name(i)
        try:
            shard = load_file(path)["resid"]
        except (SafetensorError, OSError, KeyError) as error:
            raise _damaged(path, str(error), self.folder) from error
        if tuple(shard.shape) != (self.shard_rows[i], *self.row_shape):
            raise _damaged(path, f"shape {list(shard.shape)}", self.folder)
        return shard


def shard_name(i: int) -> str:
    """File name of a shard."""
    return f"shard_{i:05d}.safetensors"


def _damaged(path: Path, why: str, folder: Path) -> InterpError:
    return InterpError(f"{path}: damaged ({why}); remove {folder} and run the stage again")


def open_store(folder: Path) -> Store:
    """Open the store that a `StoreWriter` closed."""
    metadata = json.loads((folder / "store.json").read_text())
    keys = ("models", "site", "d_model", "shard_rows", "sha256")
    return Store(folder, *(metadata[key] for key in keys))


def row_hashes(rows: Float[Tensor, "rows models d_model"]) -> Int[Tensor, " rows"]:
    """A 64-bit hash of every row as the store holds it: rows that are bit-identical in bf16 have the same.

    A product with fixed random numbers modulo 2^64, so that different rows share a hash once in 2^48 pairs or less.
    """
    bits = rows.to(torch.bfloat16).flatten(1).view(torch.int16).long()
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (bits.shape[1],), generator=generator)
    return (bits * factors.to(bits.device)).sum(1)
