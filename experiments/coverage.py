"""Do the 95 % intervals hold the exact values? The edits of calibrated organisms, again and again on other problems.

    .venv/bin/python experiments/coverage.py --worlds chains --kinds functional gated --seeds 120

Reads organisms that `experiments/calibration.py` has finished. A replicate is what their study would have measured on
other problems, with other noise and other draws of controls; the exact value of a quantity is the mean over all other
replicates. `coverage.parquet` holds every estimate and interval; replicates that are there are not run again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from interp.calibration.coverage import coverage, replicated
from interp.calibration.organisms import Unit, study_of
from interp.cli import prepare, run_script
from interp.config import load_config
from interp.errors import InterpError
from interp.statistics import clopper_pearson
from interp.workers import crew

FOLDER = "coverage"
"""In an organism's folder: its replicates."""


@dataclass(frozen=True)
class Options:
    """Which organisms, and how often."""

    worlds: tuple[str, ...] = ("chains", "prose_sums", "tracking", "lists")
    """Worlds of the organisms."""
    kinds: tuple[str, ...] = ("functional", "gated", "mixed")
    """Their kinds."""
    seeds: tuple[int, ...] = (120,)
    """Their seeds."""
    replicates: int = 20
    """Runs of each organism's edits."""
    configs: Path = Path("experiments/configs/calibration")
    """Folder of the studies that the organisms vary, WORLD.yaml each."""
    out: Path = Path("results/calibration")
    """Folder of the studies."""
    workers: int = 2
    """Replicates at a time."""


def main(options: Options) -> None:
    """Run the replicates and print how often intervals hold the exact value.

    Raises:
        InterpError: an organism has not been read yet.
    """
    configs = {world: load_config(options.configs / f"{world}.yaml") for world in options.worlds}
    prepare(next(iter(configs.values())))
    units = [Unit(w, kind, seed) for w in options.worlds for kind in options.kinds for seed in options.seeds]
    for unit in units:
        if not (study_of(configs[unit.world], unit, options.out).folder("causal") / "verdict.json").is_file():
            raise InterpError(f"{options.out / unit.name}: not read yet; run experiments/calibration.py with its seed")
    work = partial(one, configs, options.out)
    with crew(options.workers, 1, "workers") as spread:
        done = spread(work, [(unit, number) for unit in units for number in range(options.replicates)])
        table = pl.concat(list(done)).sort("world", "kind", "seed", "replicate", maintain_order=True)
    table.write_parquet(options.out / "coverage.parquet")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(summary(table))


def one(configs: dict, out: Path, item: tuple[Unit, int]) -> pl.DataFrame:
    """One replicate of one organism."""
    unit, number = item
    study = study_of(configs[unit.world], unit, out)
    rows = replicated(study, [number], study.root / FOLDER)
    about = {"world": unit.world, "kind": unit.kind, "seed": unit.seed}
    return rows.with_columns(pl.lit(value).alias(name) for name, value in about.items())


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """One row a quantity: how many intervals of all organisms hold the exact value, and the share with its interval."""
    rows: dict[str, list[int]] = {}
    for _, mine in table.group_by("world", "kind", "seed", maintain_order=True):
        for found in coverage(mine):
            held, of = rows.setdefault(found.quantity, [0, 0])
            rows[found.quantity] = [held + found.held, of + found.of]
    return pl.DataFrame(
        [
            {"quantity": name, "held": held, "of": of, "share": held / of}
            | dict(zip(("low", "high"), clopper_pearson(held, of), strict=True))
            for name, (held, of) in rows.items()
            if of
        ]
    )


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
