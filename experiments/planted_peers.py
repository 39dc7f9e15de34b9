"""Share of planted latents found by this engine and by its peers, on equal terms.

    pip install -c constraints.txt -e '.[benchmark]'
    python experiments/planted_peers.py                              # 50 minutes on one core
    python experiments/planted_peers.py --seeds 0 1 2 --only interp

Every trainer is trained by three recipes: k fixed without AuxK, k fixed with AuxK, and k annealed with AuxK. Each pair
of trainer and recipe is tuned over the same number of settings (`grid`) on seeds that are not reported: all of them on
the first, the better half on the second. The table, all runs, and what is equal and what differs between the trainers
are printed and written to `peers.json`. A killed script resumes from the runs in `runs.jsonl`.

The settings are not neutral in one respect: annealing from 24 over half the updates was found for this engine by
earlier trials on the tuning seeds (`planted.py`); each peer gets it beside its own start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import polars as pl
import torch
import tyro
from contestants import Recipe, Shape, make, normalised
from peer_runs import RECIPES, Entry, Runs, grid, k_starts, ranked, shared_terms, table, tune, write
from terms import show_terms, with_shared

from interp.crosscoder.planted import Planted, PlantedConfig, match, plant
from interp.locks import locked

BATCH, N_LATENTS, K = 256, 384, 6  # as in planted.py
K_STARTS = k_starts(N_LATENTS)


@dataclass(frozen=True)
class Options:
    """What to plant and how long to train."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds that are reported; a seed fixes planted latents, rows, their order and initial weights."""
    steps: int = 2000
    """Updates, of 256 rows each."""
    rows: int = 1 << 17
    """Rows to train on."""
    only: tuple[str, ...] = ()
    """Trainers whose names begin with one of these; all unless given."""
    out: Path = Path("results/planted")
    """Folder of the results."""


@lru_cache(maxsize=1)
def planted_rows(seed: int, n: int) -> tuple[Planted, torch.Tensor, torch.Tensor]:
    """(truth, normalised rows [n, width], scale of each model) of a seed."""
    planted = plant(PlantedConfig(seed=seed))
    x, found = normalised(planted.rows(n, 0))
    return planted, x, found.scale


def recall(entry: Entry, setting: Recipe, seed: int, options: Options) -> float:
    """Share of the planted latents that a trainer finds (`Matched.recall`)."""
    planted, x, scale = planted_rows(seed, options.rows)
    m, d = planted.directions.shape[1:]
    shape = Shape(m, d, N_LATENTS, K, BATCH, options.steps)
    contestant = make(entry.trainer, shape, Recipe(**asdict(setting) | {"seed": seed}))
    order = torch.Generator().manual_seed(seed)
    for _ in range(options.steps):
        contestant.update(x[torch.randint(len(x), (BATCH,), generator=order)])
    return match(contestant.decoder().view(-1, m, d) / scale[:, None], planted).recall


def main(options: Options) -> None:
    """Tune, measure, print, write."""
    torch.set_num_threads(1)
    trainers = [name for name in K_STARTS if not options.only or name.startswith(options.only)]
    entries = [Entry(*pair) for pair in product(trainers, RECIPES)]
    size = {"steps": options.steps, "rows": options.rows}
    with locked(options.out):
        runs = Runs(options.out / "runs.jsonl", lambda *run: {"recall": recall(*run, options=options)}, size)
        tried = tune(entries, runs.get, lambda entry: grid(entry, options.steps, K_STARTS), "recall")
        best = {entry: ranked(entry, tried, "recall")[0] for entry in entries}
        found = [runs.get(entry, best[entry], seed) for seed in options.seeds for entry in entries]
        shared = shared_terms(options.rows, options.steps, BATCH, N_LATENTS, K)
        terms = with_shared(shared, {name.split()[0].rstrip(",") for name in trainers})
        write(options.out / "peers.json", terms, tried, found)
    print(show_terms(terms))
    with pl.Config(tbl_rows=-1, fmt_str_lengths=60, tbl_width_chars=160):
        print(table(found, ["recall"]))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
