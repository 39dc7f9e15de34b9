"""Published readings: of registered seeds and committed code only, by one set of rules, each organism once."""

import polars as pl
import pytest

from interp.calibration.organisms import SCHEMA
from interp.calibration.published import COLUMNS, ORGANISM, PUBLISHED, publish, published, reliability
from interp.errors import InterpError
from interp.organisms.kinds import KINDS
from interp.statistics import clopper_pearson

RULES = {"chains": "0123456789ab"}


def read(*rows):
    """Rows (kind, seed, verdict, reported) as `calibration.py` has them."""
    made = [
        {"kind": kind, "seed": seed, "truth": KINDS[kind].truth, "verdict": said, "circuit": said}
        | {"world": "chains", "commit": "abc"}
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
    assert publish(read(("plain", 9, "no gain", True)), {"chains": "another"}, path) == 1
    assert said(path) == [("plain", 9, "no gain")]


@pytest.mark.parametrize("commit", ["abc-dirty", None])
def test_code_that_is_in_no_commit_is_refused_and_nothing_is_lost(commit, tmp_path):
    path = tmp_path / "published.parquet"
    publish(read(("gated", 7, "stylistic", True)), RULES, path)
    new = read(("plain", 9, "no gain", True)).with_columns(pl.lit(commit, pl.String).alias("commit"))
    with pytest.raises(InterpError, match="chains-plain-9: it was run by code with local changes"):
        publish(new, RULES, path)
    assert said(path) == [("gated", 7, "stylistic")]
    failed = new.with_columns(pl.lit("it ran out of memory").alias("error"), pl.lit(None, pl.String).alias("verdict"))
    assert publish(failed, RULES, path) == 2  # a study that failed counts, and names no code


def test_what_stands_beside_a_verdict_are_rates_of_both_verdicts(tmp_path):
    path = tmp_path / "published.parquet"
    assert reliability(path) is None
    made = read(("gated", 7, "stylistic", True), ("plain", 7, "stylistic", True), ("plain", 8, "undetermined", True))
    publish(made.with_columns(circuit=pl.lit("undetermined")), RULES, path)
    found = reliability(path)
    assert found.lead == (
        "3 organisms whose truth is known by construction (gated, plain; seeds 7, 8), read with rules that were fixed "
        "before, by code of commit abc."
    )
    low, high = clopper_pearson(1, 2)
    both = f"1 of 2 [{low:.2f}, {high:.2f}]"
    assert found.table[0] == ["", "by edits of text", "through the circuit"]
    assert {row[0]: row[1:] for row in found.table[1:]} == {
        "a verdict is given": ["2 of 3 [0.09, 0.99]", "0 of 3 [0.00, 0.71]"],
        "and is right": [both, "–"],
        "“stylistic” of one that is not": [both, "0 of 2 [0.00, 0.84]"],
        "“functional” of one that is not": ["0 of 3 [0.00, 0.71]", "0 of 3 [0.00, 0.71]"],
    }


def test_what_comes_with_the_package_is_of_one_set_of_rules_and_of_known_truths():
    table = published()
    assert table.schema == pl.Schema(COLUMNS)
    assert PUBLISHED.parent.name == "calibration"
    assert table.group_by("world").agg(pl.col("registration").n_unique())["registration"].max() in (None, 1)
    assert {*table.select("kind", "truth").rows()} <= {(name, kind.truth) for name, kind in KINDS.items()}
    assert table.select(ORGANISM).is_unique().all()
