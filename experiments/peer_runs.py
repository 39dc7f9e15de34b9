"""Runs of trainers that are compared: every one under every recipe, tuned alike, none of them made twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import polars as pl
from contestants import Recipe
from terms import split_terms

TUNING = (100, 101)
"""Seeds that settings are chosen on, which are never reported."""
LRS = (1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 1.5e-2)
FEW_LRS = (2e-3, 5e-3, 1e-2)
DEAD_AFTER = (25_600, 102_400)
RECIPES = ("k fixed", "k fixed, AuxK", "k annealed, AuxK")


class Entry(NamedTuple):
    """A line of the table: one trainer under one recipe."""

    trainer: str
    recipe: str


@dataclass(frozen=True)
class Run:
    """One training run."""

    entry: Entry
    setting: Recipe
    seed: int
    scores: Mapping[str, float]
    """Name to value; settings are chosen by one of them."""


def k_starts(n_latents: int) -> dict[str, tuple[int, int]]:
    """Active latents per row at the first update that each trainer is tuned over."""
    return {
        "interp, fp32": (24, 48),
        "dictionary-learning BatchTopK, fp32": (24, 192),  # 192, the width, is where its main branch starts
        "sae-lens BatchTopK, fp32": (24, 48),
        "sparsify TopK, fp32": (24, n_latents),  # all latents is where its k_decay_steps starts
    }


def grid(
    entry: Entry,
    steps: int,
    starts: Mapping[str, tuple[int, int]],
    aux_weights: Sequence[float | None] = (None,),
) -> list[Recipe]:
    """Settings that an entry is tuned over: six learning rates, or three times two values of the recipe's own knob
    (rows after which a latent is dead, or k at the first update) times the weights of AuxK."""
    warmup = steps // 20
    if entry.recipe == "k fixed":
        return [Recipe(lr, warmup) for lr in LRS]
    if entry.recipe == "k fixed, AuxK":
        return [
            Recipe(lr, warmup, dead_after=dead, aux_weight=weight)
            for lr, dead, weight in product(FEW_LRS, DEAD_AFTER, aux_weights)
        ]
    return [
        Recipe(lr, warmup, dead_after=51_200, k_start=start, k_steps=steps // 2, aux_weight=weight)
        for lr, start, weight in product(FEW_LRS, starts[entry.trainer], aux_weights)
    ]


class Runs:
    """Training runs, kept in a file with one JSON object per line, so that none is made twice."""

    def __init__(
        self, path: Path, measure: Callable[[Entry, Recipe, int], Mapping[str, float]], size: Mapping[str, int]
    ):
        """`size`: what the runs of this file differ in otherwise, such as updates and rows."""
        self._path, self._measure, self._size = path, measure, size
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        self._scores = {json.dumps(one["run"]): one["scores"] for one in found}

    def get(self, entry: Entry, setting: Recipe, seed: int) -> Run:
        """The run of an entry with a setting on a seed, from the file or made now."""
        run = entry._asdict() | asdict(setting) | {"seed": seed} | dict(self._size)
        key = json.dumps(run)
        if key not in self._scores:
            self._scores[key] = dict(self._measure(entry, setting, seed))
            with self._path.open("a") as file:
                file.write(json.dumps({"run": run, "scores": self._scores[key]}) + "\n")
            scores = "  ".join(f"{name} {value:.3f}" for name, value in self._scores[key].items())
            print(f"seed {seed}  {entry.trainer}, {entry.recipe}  {shown(setting)}  {scores}", flush=True)
        return Run(entry, setting, seed, self._scores[key])


def shown(setting: Recipe) -> str:
    """The settings that a recipe varies."""
    parts = [f"lr {setting.lr:g}"]
    parts += [f"dead after {setting.dead_after:,} rows"] if setting.dead_after else []
    parts += [f"k from {setting.k_start}"] if setting.k_start else []
    parts += [f"{setting.shared_init:.0%} start alike"] if setting.shared_init < 1 else []
    parts += [f"AuxK times {setting.aux_weight:.3g}"] if setting.aux_weight is not None else []
    return ", ".join(parts)


def ranked(entry: Entry, runs: Sequence[Run], by: str) -> list[Recipe]:
    """The settings that an entry was run with on every seed of `runs`, from the highest mean score to the lowest."""
    scores: dict[Recipe, list[float]] = {}
    for run in runs:
        if run.entry == entry:
            scores.setdefault(run.setting, []).append(run.scores[by])
    most = max(map(len, scores.values()))
    whole = [setting for setting, own in scores.items() if len(own) == most]
    return sorted(whole, key=lambda setting: -mean(scores[setting]))


def tune(
    entries: Sequence[Entry],
    get: Callable[[Entry, Recipe, int], Run],
    settings: Callable[[Entry], Sequence[Recipe]],
    by: str,
    seeds: Sequence[int] = TUNING,
) -> list[Run]:
    """Runs on the tuning seeds: of all settings on the first, of each entry's better half on the others."""
    first, *others = seeds
    runs = [get(entry, setting, first) for entry in entries for setting in settings(entry)]
    better = {entry: ranked(entry, runs, by)[: len(settings(entry)) // 2] for entry in entries}
    return runs + [get(entry, setting, seed) for seed in others for entry in entries for setting in better[entry]]


def table(found: Sequence[Run], names: Sequence[str]) -> pl.DataFrame:
    """Mean, lowest and highest of each score of every entry, as text."""
    runs = [run.entry._asdict() | {"setting": shown(run.setting)} | dict(run.scores) for run in found]
    scores = (
        pl.format(
            "{} [{}, {}]", *(getattr(pl.col(name).fill_nan(None), of)().round(3) for of in ("mean", "min", "max"))
        ).alias(name)
        for name in names
    )
    return pl.DataFrame(runs).group_by("trainer", "recipe", "setting", maintain_order=True).agg(*scores)


def shared_terms(rows: int, steps: int, batch: int, n_latents: int, k: int) -> dict[str, str]:
    """What a comparison sets for all trainers."""
    return {
        "rows": f"{rows:,}, normalised, float32, equal order",
        "arithmetic": "float32",
        "updates": f"{steps:,} of {batch} rows",
        "latents": str(n_latents),
        "k after annealing": str(k),
        "optimiser": "Adam, betas .9 and .999; linear warm-up over 5 % of the updates, then constant",
        "settings tried per recipe": f"{len(LRS)} on seed {TUNING[0]}, the better half on seed {TUNING[1]}",
    }


def write(path: Path, terms: dict[str, dict[str, str]], tried: Sequence[Run], found: Sequence[Run]) -> None:
    """All runs and the terms, as JSON."""
    equal, different = split_terms(terms)
    runs = {
        name: [run.entry._asdict() | asdict(run.setting) | {"seed": run.seed} | dict(run.scores) for run in runs]
        for name, runs in (("tuning", tried), ("reported", found))
    }
    path.write_text(json.dumps({"equal": equal, "different": different, **runs}, indent=1) + "\n")
