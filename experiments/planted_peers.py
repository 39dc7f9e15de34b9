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

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import polars as pl
import torch
import tyro
from contestants import Recipe, Shape, make, normalised
from terms import show_terms, split_terms, with_shared

from interp.crosscoder.planted import Planted, PlantedConfig, match, plant
from interp.locks import locked

TUNING = (100, 101)
BATCH, N_LATENTS, K = 256, 384, 6  # as in planted.py
LRS = (1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 1.5e-2)
FEW_LRS = (2e-3, 5e-3, 1e-2)
DEAD_AFTER = (25_600, 102_400)
K_STARTS = {
    "interp, fp32": (24, 48),
    "dictionary-learning BatchTopK, fp32": (24, 192),  # 192, the width, is where its main branch starts
    "sae-lens BatchTopK, fp32": (24, 48),
    "sparsify TopK, fp32": (24, N_LATENTS),  # all latents is where its k_decay_steps starts
}
"""Active latents per row at the first update that each trainer is tuned over."""
RECIPES = ("k fixed", "k fixed, AuxK", "k annealed, AuxK")


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


class Entry(NamedTuple):
    """A line of the table: one trainer under one recipe."""

    trainer: str
    recipe: str


class Run(NamedTuple):
    """One training run."""

    entry: Entry
    setting: Recipe
    seed: int
    recall: float
    """Share of the planted latents that were found, in [0, 1]; see `Matched.recall`."""


def grid(entry: Entry, steps: int) -> list[Recipe]:
    """Settings that an entry is tuned over: six learning rates, or three times two values of the recipe's own knob
    (rows after which a latent is dead, or k at the first update)."""
    warmup = steps // 20
    if entry.recipe == "k fixed":
        return [Recipe(lr, warmup) for lr in LRS]
    if entry.recipe == "k fixed, AuxK":
        return [Recipe(lr, warmup, dead_after=dead) for lr, dead in product(FEW_LRS, DEAD_AFTER)]
    starts = K_STARTS[entry.trainer]
    return [
        Recipe(lr, warmup, dead_after=51_200, k_start=start, k_steps=steps // 2)
        for lr, start in product(FEW_LRS, starts)
    ]


@lru_cache(maxsize=1)
def planted_rows(seed: int, n: int) -> tuple[Planted, torch.Tensor, torch.Tensor]:
    """(truth, normalised rows [n, width], scale of each model) of a seed."""
    planted = plant(PlantedConfig(seed=seed))
    x, found = normalised(planted.rows(n, 0))
    return planted, x, found.scale


def recall(trainer: str, setting: Recipe, seed: int, options: Options) -> float:
    """Share of the planted latents that a trainer finds."""
    planted, x, scale = planted_rows(seed, options.rows)
    m, d = planted.directions.shape[1:]
    shape = Shape(m, d, N_LATENTS, K, BATCH, options.steps)
    contestant = make(trainer, shape, Recipe(**asdict(setting) | {"seed": seed}))
    order = torch.Generator().manual_seed(seed)
    for _ in range(options.steps):
        contestant.update(x[torch.randint(len(x), (BATCH,), generator=order)])
    return match(contestant.decoder().view(-1, m, d) / scale[:, None], planted).recall


class Runs:
    """Training runs, kept in a file with one JSON object per line, so that none is made twice."""

    def __init__(self, options: Options):
        self._options, self._path = options, options.out / "runs.jsonl"
        options.out.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        found = [json.loads(line) for line in lines]
        self._recall = {json.dumps(one["run"]): one["recall"] for one in found}

    def get(self, entry: Entry, setting: Recipe, seed: int) -> Run:
        """The run of an entry with a setting on a seed, from the file or made now."""
        size = {"steps": self._options.steps, "rows": self._options.rows}
        run = entry._asdict() | asdict(setting) | {"seed": seed} | size
        key = json.dumps(run)
        if key not in self._recall:
            self._recall[key] = recall(entry.trainer, setting, seed, self._options)
            with self._path.open("a") as file:
                file.write(json.dumps({"run": run, "recall": self._recall[key]}) + "\n")
            print(
                f"seed {seed}  {entry.trainer}, {entry.recipe}  {shown(setting)}  {self._recall[key]:.3f}", flush=True
            )
        return Run(entry, setting, seed, self._recall[key])


def shown(setting: Recipe) -> str:
    """The settings that a recipe varies."""
    parts = [f"lr {setting.lr:g}"]
    parts += [f"dead after {setting.dead_after:,} rows"] if setting.dead_after else []
    parts += [f"k from {setting.k_start}"] if setting.k_start else []
    return ", ".join(parts)


def ranked(entry: Entry, runs: list[Run]) -> list[Recipe]:
    """The settings that an entry was run with on every seed of `runs`, from the highest mean recall to the lowest."""
    scores: dict[Recipe, list[float]] = {}
    for run in runs:
        if run.entry == entry:
            scores.setdefault(run.setting, []).append(run.recall)
    most = max(map(len, scores.values()))
    whole = [setting for setting, own in scores.items() if len(own) == most]
    return sorted(whole, key=lambda setting: -mean(scores[setting]))


def tune(entries: list[Entry], get: Callable[[Entry, Recipe, int], Run], steps: int) -> list[Run]:
    """Runs on the tuning seeds: of all settings on the first, of each entry's better half on the second."""
    first, second = TUNING
    runs = [get(entry, setting, first) for entry in entries for setting in grid(entry, steps)]
    better = {entry: ranked(entry, runs)[: len(LRS) // 2] for entry in entries}
    return runs + [get(entry, setting, second) for entry in entries for setting in better[entry]]


def shared_terms(options: Options) -> dict[str, str]:
    """What this script sets for all trainers."""
    return {
        "rows": f"{options.rows:,}, normalised, float32, equal order",
        "arithmetic": "float32",
        "updates": f"{options.steps:,} of {BATCH} rows",
        "latents": str(N_LATENTS),
        "k after annealing": str(K),
        "optimiser": "Adam, betas .9 and .999; linear warm-up over 5 % of the updates, then constant",
        "settings tried per recipe": f"{len(LRS)} on seed {TUNING[0]}, the better half on seed {TUNING[1]}",
    }


def table(found: list[Run]) -> pl.DataFrame:
    """Mean, lowest and highest recall of each entry."""
    runs = [run.entry._asdict() | {"setting": shown(run.setting), "recall": run.recall} for run in found]
    scores = (getattr(pl.col("recall"), name)().alias(name) for name in ("mean", "min", "max"))
    return pl.DataFrame(runs).group_by("trainer", "recipe", "setting", maintain_order=True).agg(*scores)


def write(path: Path, terms: dict[str, dict[str, str]], tried: list[Run], found: list[Run]) -> None:
    """All runs and the terms, as JSON."""
    equal, different = split_terms(terms)
    runs = {
        name: [run.entry._asdict() | asdict(run.setting) | {"seed": run.seed, "recall": run.recall} for run in runs]
        for name, runs in (("tuning", tried), ("reported", found))
    }
    path.write_text(json.dumps({"equal": equal, "different": different, **runs}, indent=1) + "\n")


def main(options: Options) -> None:
    """Tune, measure, print, write."""
    torch.set_num_threads(1)
    trainers = [name for name in K_STARTS if not options.only or name.startswith(options.only)]
    entries = [Entry(*pair) for pair in product(trainers, RECIPES)]
    with locked(options.out):
        runs = Runs(options)
        tried = tune(entries, runs.get, options.steps)
        found = [runs.get(entry, ranked(entry, tried)[0], seed) for seed in options.seeds for entry in entries]
        terms = with_shared(shared_terms(options), {name.split()[0].rstrip(",") for name in trainers})
        write(options.out / "peers.json", terms, tried, found)
    print(show_terms(terms))
    with pl.Config(tbl_rows=-1, fmt_str_lengths=60, tbl_width_chars=160, float_precision=3):
        print(table(found))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
