"""The organisms whose readings are published with the package, and what they say of the instrument's errors.

`experiments/calibration.py --publish` writes them. They are of seeds that no rule was chosen on, read by code and
config that were registered before; every row names the commit of the code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from interp.calibration.organisms import SCHEMA
from interp.calibration.rates import rates
from interp.disk import disk_errors
from interp.errors import InterpError
from interp.names import EDITED
from interp.report.reliability import Reliability
from interp.study import Study
from interp.traces.equations import equations

PUBLISHED = Path(__file__).parent / "published.parquet"
EQUATIONS = {"smollm2": 1.0, "chains": 1.0, "prose_sums": 0.5, "tracking": 0.0, "lists": 0.0}
"""World to the share of its texts that hold an equation; of two alike the first is the nearest."""
ORGANISM = ["world", "kind", "seed"]
"""Columns that name an organism."""

COLUMNS = SCHEMA | {"registration": pl.String}
"""An organism's row (`organisms.SCHEMA`), and the digest of the rules that it was read by."""


def published(path: Path = PUBLISHED) -> pl.DataFrame:
    """One row an organism, with COLUMNS; none where nothing is published."""
    return pl.read_parquet(path, glob=False) if path.is_file() else pl.DataFrame(schema=COLUMNS)


def publish(table: pl.DataFrame, registration: Mapping[str, str], path: Path = PUBLISHED) -> int:
    """Put the rows whose seeds are registered for reporting (`reported`) among the published ones, in the place of
    those of the same world, kind and seed, and of all that were read by other rules; returns how many there are then.

    Args:
        registration: world to the digest of its rules.

    Raises:
        InterpError: a study was run by code that is in no commit, so that nobody else can run it.
    """
    rules = pl.col("world").replace_strict(registration, default=None, return_dtype=pl.String).alias("registration")
    new = table.filter("reported").select(*SCHEMA, rules)
    unknown = new.filter(pl.col("error").is_null(), pl.col("commit").fill_null("-dirty").str.ends_with("-dirty"))
    if len(unknown):
        world, kind, seed = unknown.select("world", "kind", "seed").row(0)
        raise InterpError(f"{world}-{kind}-{seed}: it was run by code with local changes; commit them and run it again")
    kept = published(path).filter(pl.col("registration") == rules)
    merged = pl.concat([kept.join(new, on=ORGANISM, how="anti"), new]).sort(ORGANISM)
    with disk_errors(path):
        merged.write_parquet(path)
    return len(merged)


def reliability(study: Study, path: Path = PUBLISHED) -> Reliability | None:
    """What stands beside a study's verdict; None where nothing is published."""
    table = published(path)
    if not len(table):
        return None
    world, why = nearest(study, set(table["world"]))
    return Reliability(table.select(*ORGANISM, "family", "commit"), rates(table), world, why)


def nearest(study: Study, among: Collection[str]) -> tuple[str, str]:
    """(the one of these worlds that is most like a study's texts, why): an organism's own; of other checkpoints, by the
    share of the distilled model's texts that hold an equation, which is how steps are read."""
    own = study.config.task.kind
    if not study.config.checkpoints.given and own in among:
        return own, "this study is one of its organisms"
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", columns=["model", "text"], glob=False)
    texts = traces.filter(model=EDITED)["text"]
    share = sum(bool(equations(text)) for text in texts) / max(1, len(texts))
    world = min((name for name in EQUATIONS if name in among), key=lambda name: abs(EQUATIONS[name] - share))
    return world, f"{EQUATIONS[world]:.0%} of its texts hold an equation, and {share:.0%} of the distilled model's"
