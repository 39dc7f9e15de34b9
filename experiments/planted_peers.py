"""Does this engine find as many planted latents as its peers do, after as many updates on the same rows?

    pip install -c constraints.txt -e '.[benchmark]'
    python experiments/planted_peers.py

Every trainer gets the same normalised rows in the same order, the same number of latents, and the same k. Each one's
learning rate is the best of `LRS` on seeds 100 and 101, which are not reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
import tyro
from contestants import CONTESTANTS, Shape, make

from interp.crosscoder.planted import PlantedConfig, match, plant
from interp.crosscoder.rows import fit_normaliser

LRS = (1e-3, 3e-3, 1e-2)
TUNING = (100, 101)
BATCH, N_LATENTS, K, K_START = 256, 384, 6, 24  # as in planted.py


@dataclass(frozen=True)
class Options:
    """What to plant and how long to train."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds that are reported."""
    steps: int = 2000
    """Updates, of 256 rows each."""
    rows: int = 1 << 17
    """Rows to train on."""
    only: tuple[str, ...] = ()
    """Trainers whose names begin with one of these; all unless given."""
    out: Path = Path("results/planted")
    """Folder of the table."""


def recall(name: str, lr: float, seed: int, options: Options) -> float:
    """Share of the planted latents that a trainer finds, in [0, 1]; see `Matched.recall`."""
    planted = plant(PlantedConfig(seed=seed))
    rows = planted.rows(options.rows, 0)
    found = fit_normaliser(rows.split(1 << 14))
    x = ((rows - found.mean) * found.scale[:, None]).flatten(1)
    m, d = rows.shape[1:]
    shape = Shape(m, d, N_LATENTS, K, BATCH, options.steps, lr, options.steps // 20, "cpu", K_START)
    contestant, order = make(name, shape), torch.Generator().manual_seed(seed)
    for _ in range(options.steps):
        contestant.update(x[torch.randint(len(x), (BATCH,), generator=order)])
    decoder = contestant.decoder().view(-1, m, d) / found.scale[:, None]
    return match(decoder, planted).recall


def main(options: Options) -> None:
    """Choose learning rates, measure, print, write."""
    torch.set_num_threads(1)
    table = []
    for name in CONTESTANTS:
        if name.startswith("encoder") or "bf16" in name or (options.only and not name.startswith(options.only)):
            continue
        tuned = {lr: sum(recall(name, lr, seed, options) for seed in TUNING) / len(TUNING) for lr in LRS}
        lr = max(tuned, key=lambda lr: tuned[lr])
        for seed in options.seeds:
            table.append({"name": name, "lr": lr, "seed": seed, "recall": recall(name, lr, seed, options)})
        print(name, {lr: round(value, 3) for lr, value in tuned.items()}, flush=True)
    scores = pl.DataFrame(table)
    options.out.mkdir(parents=True, exist_ok=True)
    scores.write_parquet(options.out / "peers.parquet")
    mean, low, high = (getattr(pl.col("recall"), f)().alias(f) for f in ("mean", "min", "max"))
    with pl.Config(tbl_rows=-1, fmt_str_lengths=40, float_precision=3):
        print(scores.group_by("name", "lr", maintain_order=True).agg(mean, low, high))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
