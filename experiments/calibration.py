"""Is the instrument right about organisms whose truth is known? Every kind on every seed in every world, verdict beside
truth, and the rates of error with exact intervals.

    .venv/bin/python experiments/calibration.py --worlds chains --kinds functional coupled --seeds 113 114
    .venv/bin/python experiments/calibration.py --quick

What is run is pre-registered: thresholds, configs and seeds stand in `experiments/configs/registered.json`, which is
committed before the studies begin; where code or config differ from it, nothing begins. `--register` writes the file
anew. Each organism is a unit with a folder of its own under `--out`; one that is done is not done again, one that was
interrupted resumes, and one that fails is counted. `organisms.parquet` and `rates.parquet` hold what is printed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from interp.calibration.figure import calibration
from interp.calibration.organisms import in_turn, run_units, study_of, table, varied
from interp.calibration.published import PUBLISHED, publish, published
from interp.calibration.rates import CIRCUIT, TEXT, confusion, rates
from interp.calibration.thresholds import register, registered
from interp.cli import prepare, run_script
from interp.config import load_config
from interp.errors import InterpError, nearest
from interp.organisms.kinds import KINDS
from interp.organisms.worlds import WORLDS
from interp.report.palette import house_style, save

FIGURES = Path(__file__).parents[1] / "figures"
QUICK = {"worlds": ("chains",), "kinds": ("functional", "gated", "decorative", "plain")}
"""What `--quick` reads, of the first registered seed."""


@dataclass(frozen=True)
class Options:
    """Which organisms to read."""

    worlds: tuple[str, ...] = ()
    """Worlds, by default all but SmolLM2's, whose adapters must be there (`experiments/smollm2/make.py`)."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of organism."""
    seeds: tuple[int, ...] = ()
    """Seeds of each kind, by default those registered for reporting; everything random follows them."""
    quick: bool = False
    """Four kinds of one world and one seed."""
    configs: Path = Path("experiments/configs/calibration")
    """Folder of the studies that the organisms vary, WORLD.yaml each."""
    registration: Path = Path("experiments/configs/registered.json")
    """File of the thresholds, the configs and the seeds."""
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
        InterpError: code or config differ from what is registered, or a world or kind is not known.
    """
    known = {path.stem: path for path in sorted(options.configs.glob("*.yaml"))}
    own = tuple(world for world in known if world in WORLDS)
    wanted = QUICK["worlds"] if options.quick else options.worlds or own
    for world in wanted:
        if world not in known:
            raise InterpError(f"{options.configs}: no world {world!r}; {nearest(world, list(known))}")
    configs = {world: load_config(known[world]) for world in wanted}
    rules = {world: varied(config) for world, config in configs.items()}
    if options.register:
        every = {world: varied(load_config(path)) for world, path in known.items()}
        register(options.registration, every, options.tuning, options.seeds)
        print(f"{options.registration}: commit it before the studies begin")
        return
    fixed = registered(options.registration, rules)
    prepare(next(iter(configs.values())))
    kinds = QUICK["kinds"] if options.quick else options.kinds
    seeds = options.seeds or (fixed.reporting[:1] if options.quick else fixed.reporting)
    units = in_turn(wanted, kinds, seeds, options.workers)
    studies = {unit: study_of(configs[unit.world], unit, options.out) for unit in units}
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
        digests = {world: fixed.digest(world) for world in wanted}
        print(f"{PUBLISHED}: {publish(read, digests)} organisms; commit it")
        problems = {min(config.causal.problems, config.traces.problems) for config in configs.values()}
        with house_style():
            save(calibration(published(), max(problems)), FIGURES)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
