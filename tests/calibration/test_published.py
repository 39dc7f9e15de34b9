"""Published readings: of registered seeds and committed code only, by one set of rules, each organism once."""

import polars as pl
import pytest

from interp.calibration.organisms import SCHEMA
from interp.calibration.published import COLUMNS, PUBLISHED, SHOWN, beside, publish, published
from interp.calibration.rates import rates
from interp.errors import InterpError
from interp.organisms.documents import TRUTHS

RULES = "0123456789ab"


def read(*rows):
    """Rows (kind, seed, verdict, reported) as `calibration.py` has them."""
    made = [
        {"kind": kind, "seed": seed, "truth": TRUTHS[kind], "verdict": said, "circuit": said, "commit": "abc"}
        for kind, seed, said, _ in rows
    ]
    return pl.DataFrame(made, schema=SCHEMA).with_columns(pl.Series("reported", [row[3] for row in rows], pl.Boolean))


def said(path):
    return published(path).select("kind", "seed", "verdict").rows()


def test_only_registered_seeds_are_published_and_each_organism_once(tmp_path):
    path = tmp_path / "published.parquet"
    assert published(path).schema == pl.Schema(COLUMNS) and not len(published(path))
    first = read(("gated", 7, "stylistic", True), ("plain", 7, "no gain", True), ("plain", 1, "stylistic", False))
    assert publish(first, RULES, path) == 2
    assert publish(read(("gated", 7, "undetermined", True), ("gated", 8, "stylistic", True)), RULES, path) == 3
    assert said(path) == [("gated", 7, "undetermined"), ("gated", 8, "stylistic"), ("plain", 7, "no gain")]
    assert published(path).schema == pl.Schema(COLUMNS)


def test_readings_by_other_rules_make_way(tmp_path):
    path = tmp_path / "published.parquet"
    publish(read(("gated", 7, "stylistic", True)), RULES, path)
    assert publish(read(("plain", 9, "no gain", True)), "another", path) == 1
    assert said(path) == [("plain", 9, "no gain")]


@pytest.mark.parametrize("commit", ["abc-dirty", None])
def test_code_that_is_in_no_commit_is_refused_and_nothing_is_lost(commit, tmp_path):
    path = tmp_path / "published.parquet"
    publish(read(("gated", 7, "stylistic", True)), RULES, path)
    new = read(("plain", 9, "no gain", True)).with_columns(pl.lit(commit, pl.String).alias("commit"))
    with pytest.raises(InterpError, match="plain-9: it was run by code with local changes"):
        publish(new, RULES, path)
    assert said(path) == [("gated", 7, "stylistic")]
    failed = new.with_columns(pl.lit("it ran out of memory").alias("error"), pl.lit(None, pl.String).alias("verdict"))
    assert publish(failed, RULES, path) == 2  # a study that failed counts, and names no code


def test_what_stands_beside_a_verdict_are_rates_of_both_verdicts():
    table = read(("gated", 7, "stylistic", True), ("plain", 7, "stylistic", True), ("plain", 8, "undetermined", True))
    found = beside(table)
    assert found.select("instrument", "rate").rows() == [(i, r) for i in ("verdict", "circuit") for r in SHOWN]
    false = found.filter(rate="false 'stylistic'")
    assert false.select("count", "of").rows() == [(1, 2), (1, 2)]
    assert len(rates(table)) > len(found)


def test_what_comes_with_the_package_is_of_one_set_of_rules_and_of_known_truths():
    table = published()
    assert table.schema == pl.Schema(COLUMNS)
    assert PUBLISHED.parent.name == "calibration"
    assert table["registration"].n_unique() <= 1
    assert {*table.select("kind", "truth").rows()} <= {*TRUTHS.items()}
    assert table.select("kind", "seed").is_unique().all()
