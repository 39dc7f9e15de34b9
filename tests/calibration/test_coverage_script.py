"""The table of `experiments/coverage.py`."""

import polars as pl
import pytest

from interp.calibration.coverage import SCHEMA
from interp.statistics import clopper_pearson
from tests.scripts import load_script


def test_intervals_are_counted_over_organisms_and_each_is_compared_within_its_own():
    """Of one organism all three intervals hold the mean of the others, of the other none does."""
    near = [(i, "gain", 1.0, 0.0, 2.0) for i in range(3)]
    far = [(i, "gain", value, value - 0.1, value + 0.1) for i, value in enumerate((10.0, 20.0, 30.5))]
    parts = []
    for seed, rows in ((1, near), (2, far)):
        made = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        parts.append(made.with_columns(world=pl.lit("chains"), kind=pl.lit("mixed"), seed=pl.lit(seed)))
    (row,) = load_script("coverage").summary(pl.concat(parts)).rows(named=True)
    assert (row["quantity"], row["held"], row["of"], row["share"]) == ("gain", 3, 6, 0.5)
    assert (row["low"], row["high"]) == pytest.approx(clopper_pearson(3, 6))
