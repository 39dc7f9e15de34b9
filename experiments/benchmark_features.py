"""Time and memory of the catalogue and of attribution for a large dictionary, each step beside its share.

    .venv/bin/python experiments/benchmark_features.py --rows 1_000_000 --latents 32_768

Rows and weights are random, the threshold such that each row has about `--k` active latents; the rows lie on disk in
bf16 and are memory-mapped, as a store's are. Attribution is of `--pairs` pairs of prefixes in a random model of
`--layers` blocks of the rows' width.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import torch
import tyro
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.features.attribution import decide
from interp.features.behaviour import score
from interp.features.codes import encode_sparse
from interp.features.contrasts import WRONG_RIGHT, Contrast, Pair
from interp.features.margin import Margin
from interp.features.selection import rank
from interp.features.sites import SCANNED, scan
from interp.features.specificity import exclusive
from interp.models.hooks import Site
from interp.organisms.architecture import make_model
from interp.organisms.chains import CHAINS


@dataclass(frozen=True)
class Options:
    """What is measured."""

    rows: int = 1_000_000
    """Rows of the store."""
    latents: int = 32_768
    """Latents of the dictionary."""
    models: int = 3
    """Models of a row."""
    d_model: int = 576
    """Width of each model."""
    k: int = 32
    """Active latents of a row, about."""
    pairs: int = 512
    """Pairs of prefixes of the scan and of attribution."""
    layers: int = 6
    """Blocks of the model that is attributed."""
    threads: int = 2
    """CPU threads."""


class Peak(Thread):
    """The most memory of its own that the process holds, watched every 50 ms: without the pages of mapped files, which
    the system takes back when it needs them."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gib = 0.0
        self._end = Event()

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        me = psutil.Process()
        while not self._end.wait(0.05):
            memory = me.memory_info()
            self.gib = max(self.gib, (memory.rss - memory.shared) / 2**30)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step took, and its peak of memory."""
    began = time.perf_counter()
    with Peak() as peak:
        yield
    print(f"{what:46} {time.perf_counter() - began:8.1f} s   peak {peak.gib:5.2f} GiB", flush=True)


def stored(options: Options, folder: Path) -> Tensor:
    """Random rows in one file, memory-mapped."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.models, options.d_model)
    rows = torch.empty(options.rows, *shape, dtype=torch.bfloat16)
    for some in rows.split(1 << 16):
        some.copy_(torch.randn(len(some), *shape, generator=generator))
    save_file({"resid": rows}, folder / "rows.safetensors")
    del rows
    with safe_open(folder / "rows.safetensors", "pt") as file:
        return file.get_tensor("resid")


def dictionary(options: Options, rows: Tensor) -> Crosscoder:
    """A random crosscoder whose threshold leaves about `k` latents of a row."""
    config = CrosscoderConfig(n_models=options.models, d_model=options.d_model, n_latents=options.latents, k=options.k)
    cc = Crosscoder(config, 0).requires_grad_(False)
    f = cc.encode(rows[:512].float()) * cc.decoder_norms()
    cc.threshold.fill_(float(f.flatten().topk(512 * options.k).values[-1]))
    return cc


def main(options: Options) -> None:
    """Measure every step."""
    torch.set_num_threads(options.threads)
    print(
        f"{options.rows:,} rows of {options.models} x {options.d_model}, {options.latents:,} latents, "
        f"{options.threads} threads"
    )
    rng, began = np.random.default_rng(0), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = stored(options, Path(folder))
        cc = dictionary(options, rows)
        start = time.perf_counter()
        with timed("encode"):
            f = encode_sparse(cc, rows)
        print(f"  {f.nnz / options.rows:.1f} active latents a row")
        with timed("specificity and Latent Scaling"):
            exclusive(cc, rows, f)
        side = rng.random(options.rows)
        with timed("scores of two behaviours, both halves"):
            for _ in range(4):
                score(f, side < 0.05, side > 0.5)
        model = make_model(options.d_model, options.layers, 9, 0, CHAINS.tokenizer()).eval().requires_grad_(False)
        vocab = model.config.vocab_size
        ids = rng.integers(3, vocab, (2 * options.pairs, 48)).tolist()
        pairs = [Pair(f"p{i}", ids[2 * i], ids[2 * i + 1]) for i in range(options.pairs)]
        contrast = Contrast(WRONG_RIGHT, pairs, Margin((3,), (4,), 1.0, 1.0))
        sites = [Site(layer, name) for layer in range(options.layers) for name in SCANNED]
        with timed(f"scan of {len(sites)} sites in one model"):
            scan("distilled", model, contrast, sites, 0, 0)
        names: dict[str, PreTrainedModel] = dict.fromkeys(("base", "distilled", "zero_rl")[: options.models], model)
        with timed("attribution, and exact effects of the best 64"):
            site = Site(options.layers // 2)
            rank(decide(names, "distilled", cc, site, contrast.half(choosing=True), 0))
        print(f"all steps: {time.perf_counter() - start:.1f} s (making the rows: {start - began:.1f} s)")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
