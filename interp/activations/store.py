"""The store of aligned residuals: bf16 shards [rows, models, d_model], memory-mapped, with an index of the rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.errors import InterpError

BYTES = 2
"""Bytes of one stored number (bf16)."""


class StoreWriter:
    """Collects rows and writes them in shards of equal size."""

    def __init__(self, folder: Path, names: list[str], site: str, shard_rows: int):
        self.folder, self.names, self.site, self.shard_rows = folder, names, site, shard_rows
        self._pending: list[Float[Tensor, "rows models d_model"]] = []
        self._pending_rows = self._shards = self.rows = 0

    def add(self, rows: Float[Tensor, "rows models d_model"]) -> None:
        """Append rows, in the order of the index."""
        self._pending.append(rows.to(torch.bfloat16).cpu())
        self._pending_rows += len(rows)
        while self._pending_rows >= self.shard_rows:
            self._write(self.shard_rows)

    def close(self, index: pl.DataFrame) -> None:
        """Write what is left, the index (one row a row) and the description."""
        if self._pending_rows:
            self._write(self._pending_rows)
        index.write_parquet(self.folder / "index.parquet")
        description = {"models": self.names, "site": self.site, "rows": self.rows, "shards": self._shards}
        (self.folder / "store.json").write_text(json.dumps(description, indent=1))

    def _write(self, n: int) -> None:
        joined = torch.cat(self._pending)
        save_file({"resid": joined[:n].contiguous()}, self.folder / f"shard_{self._shards:05d}.safetensors")
        self._pending, self._pending_rows = [joined[n:]], len(joined) - n
        self._shards += 1
        self.rows += n


@dataclass(frozen=True)
class Store:
    """A finished store."""

    folder: Path
    names: list[str]
    site: str
    rows: int
    shards: int

    @cached_property
    def index(self) -> pl.DataFrame:
        """One row a row: `text` (number of the text), `position`, `token`."""
        return pl.read_parquet(self.folder / "index.parquet")

    @property
    def layer(self) -> int:
        """The block whose output is stored."""
        return int(self.site.split(".")[1])

    def tensor(self) -> Float[Tensor, "rows models d_model"]:
        """All rows. One shard is memory-mapped; several are read into memory.

        Raises:
            InterpError: a shard is damaged, or the store is larger than half of the memory.
        """
        if not self.shards:
            raise InterpError(f"{self.folder}: no rows; lower activations.skip_first, or give longer texts")
        parts = [self._shard(i) for i in range(self.shards)]
        if len(parts) == 1:
            return parts[0]
        needed, memory = sum(p.numel() * BYTES for p in parts), physical_memory()
        if needed > memory / 2:
            raise InterpError(
                f"{self.folder}: {needed / 1e9:.1f} GB of residuals do not fit into half of the memory "
                f"({memory / 2e9:.1f} GB); take fewer problems"
            )
        return torch.cat(parts)

    def _shard(self, i: int) -> Float[Tensor, "rows models d_model"]:
        path = self.folder / f"shard_{i:05d}.safetensors"
        try:
            return load_file(path)["resid"]
        except (SafetensorError, OSError, KeyError) as error:
            raise InterpError(f"{path}: damaged ({error}); remove {self.folder} and run the stage again") from error


def open_store(folder: Path) -> Store:
    """Open the store that a `StoreWriter` closed."""
    description = json.loads((folder / "store.json").read_text())
    return Store(folder, description["models"], description["site"], description["rows"], description["shards"])


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
