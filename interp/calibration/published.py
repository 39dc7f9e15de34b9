"""The organisms whose readings are published with the package, and what they say of the instrument's errors.

`experiments/calibration.py --publish` writes them. They are of seeds that no rule was chosen on, read by code and
config that were registered before; every row names the commit of the code.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from interp.calibration.organisms import SCHEMA
from interp.calibration.rates import rates
from interp.disk import disk_errors
from interp.errors import InterpError
from interp.report.reliability import Reliability

PUBLISHED = Path(__file__).parent / "published.parquet"


COLUMNS = SCHEMA | {"registration": pl.String}
"""An organism's row (`organisms.SCHEMA`), and the digest of the rules that it was read by."""


def published(path: Path = PUBLISHED) -> pl.DataFrame:
    """One row an organism, with COLUMNS; none where nothing is published."""
    return pl.read_parquet(path, glob=False) if path.is_file() else pl.DataFrame(schema=COLUMNS)


def publish(table: pl.DataFrame, registration: str, path: Path = PUBLISHED) -> int:
    """Put the rows whose seeds are registered for reporting (`reported`) among the published ones, in the place of
    those of the same kind and seed, and of all that were read by other rules; returns how many there are then.

    Raises:
        InterpError: a study was run by code that is in no commit, so that nobody else can run it.
    """
    new = table.filter("reported").select(*SCHEMA, pl.lit(registration).alias("registration"))
    unknown = new.filter(pl.col("error").is_null(), pl.col("commit").fill_null("-dirty").str.ends_with("-dirty"))
    if len(unknown):
        kind, seed = unknown.select("kind", "seed").row(0)
        raise InterpError(f"{kind}-{seed}: it was run by code with local changes; commit them and run it again")
    kept = published(path).filter(registration=registration).join(new, on=["kind", "seed"], how="anti")
    merged = pl.concat([kept, new]).sort("kind", "seed")
    with disk_errors(path):
        merged.write_parquet(path)
    return len(merged)


def reliability(path: Path = PUBLISHED) -> Reliability | None:
    """What stands beside a verdict; None where nothing is published."""
    table = published(path)
    return Reliability(table.select("kind", "seed", "commit"), rates(table)) if len(table) else None
