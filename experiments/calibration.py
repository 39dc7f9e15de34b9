"""Is the instrument right about organisms whose truth is known? Every kind on every seed, verdict beside truth, and the
rates of error with exact intervals.

    .venv/bin/python experiments/calibration.py --kinds functional coupled --seeds 113 114

What is run is pre-registered: thresholds, config and seeds stand in `experiments/configs/registered.json`, which is
committed before the studies begin; where code or config differ from it, nothing begins. `--register` writes the file
anew. Each organism is a unit with a folder of its own under `--out`; one that is done is not done again, one that was
interrupted resumes, and one that fails is counted. `organisms.parquet` and `rates.parquet` hold what is printed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import tyro

from interp.calibration.organisms import in_turn, run_units, study_of, table, varied
from interp.calibration.published import PUBLISHED, publish
from interp.calibration.rates import CIRCUIT, TEXT, confusion, rates
from interp.calibration.thresholds import register, registered
from interp.cli import prepare
from interp.config import load_config
from interp.errors import InterpError
from interp.organisms.documents import KINDS


@dataclass(frozen=True)
class Options:
    """Which organisms to read."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of organism."""
    seeds: tuple[int, ...] = ()
    """Seeds of each kind, by default those registered for reporting; everything random follows them."""
    config: Path = Path("experiments/configs/calibration.yaml")
    """Study that each of them varies."""
    registration: Path = Path("experiments/configs/registered.json")
    """File of the thresholds, the config and the seeds."""
    out: Path = Path("results/calibration")
    """Folder of the studies and the tables."""
    workers: int = 2
    """Studies at a time."""
    register: bool = False
    """Write the registration and end."""
    publish: bool = False
    """Put the readings of the registered seeds among those that come with the package and stand on a study's page."""
    tuning: tuple[int, ...] = ()
    """With `--register`: seeds that thresholds and rules were chosen on; `--seeds` are those that will be reported."""


def main(options: Options) -> None:
    """Run the units and print the tables.

    Raises:
        InterpError: code or config differ from what is registered, or a kind is not known.
    """
    config = load_config(options.config)
    if options.register:
        register(options.registration, varied(config), options.tuning, options.seeds)
        print(f"{options.registration}: commit it before the studies begin")
        return
    fixed = registered(options.registration, varied(config))
    prepare(config)
    units = in_turn(options.kinds, options.seeds or fixed.reporting)
    studies = {unit: study_of(config, unit, options.out) for unit in units}
    failed = run_units(studies, options.workers)
    read = table(studies, failed).with_columns(reported=pl.col("seed").is_in(fixed.reporting))
    read.write_parquet(options.out / "organisms.parquet")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(read.drop("why", "circuit_why"))
        counted = read.filter("reported")
        if not len(counted):
            print("No rates: none of these seeds is registered for reporting.")
            return
        for instrument in (TEXT, CIRCUIT):
            print(instrument, confusion(counted, instrument))
        found = rates(counted)
        found.write_parquet(options.out / "rates.parquet")
        print(found)
    if options.publish:
        print(f"{PUBLISHED}: {publish(read, fixed.digest)} organisms; commit it")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except InterpError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
