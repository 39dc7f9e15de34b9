"""Published readings: of registered seeds and committed code only, by one set of rules, each organism once."""

import random

import polars as pl
import pytest

from interp.calibration.organisms import SCHEMA, Unit, study_of
from interp.calibration.published import (
    COLUMNS,
    EQUATIONS,
    ORGANISM,
    PUBLISHED,
    nearest,
    publish,
    published,
    reliability,
)
from interp.config import check_config
from interp.errors import InterpError
from interp.organisms.kinds import KINDS
from interp.organisms.worlds import WORLDS
from interp.report.reliability import INSTRUMENTS
from interp.statistics import clopper_pearson
from interp.study import Study
from interp.traces.equations import equations

RULES = {"chains": "0123456789ab"}


def read(*rows):
    """Rows (kind, seed, verdict, reported) as `calibration.py` has them."""
    made = [
        {"kind": kind, "seed": seed, "truth": KINDS[kind].truth, "verdict": said, "circuit": said}
        | {"world": "chains", "family": "qwen2", "commit": "abc"}
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
    study = study_of(check_config({}, "x"), Unit("chains", "gated", 7), tmp_path)
    assert reliability(study, path) is None
    made = read(("gated", 7, "stylistic", True), ("plain", 7, "stylistic", True), ("plain", 8, "undetermined", True))
    publish(made.with_columns(circuit=pl.lit("undetermined")), RULES, path)
    found = reliability(study, path)
    assert found.lead == (
        "3 organisms whose truth is known by construction (worlds: chains; gated, plain; qwen2; seeds 7, 8), read "
        "with rules that were fixed before, by code of commit abc. The nearest world is chains: this study is one of "
        "its organisms."
    )
    low, high = clopper_pearson(1, 2)
    both = f"1 of 2 [{low:.2f}, {high:.2f}]"
    head, *rows = found.table
    assert head[1:] == [f"{of}, {how}" for of in ("chains", "all worlds") for how in INSTRUMENTS.values()]
    assert all(row[1:3] == row[3:] for row in rows)
    assert {row[0]: row[1:3] for row in rows} == {
        "a verdict is given": ["2 of 3 [0.09, 0.99]", "0 of 3 [0.00, 0.71]"],
        "and is right": [both, "–"],
        "“stylistic” of one that is not": [both, "0 of 2 [0.00, 0.84]"],
        "“functional” of one that is not": ["0 of 3 [0.00, 0.71]", "0 of 3 [0.00, 0.71]"],
    }


@pytest.mark.parametrize(
    ("texts", "world"),
    [
        (["1 + 1 = 2", "2 + 2 = 4. So it is 4.", "3 - 1 = 2"], "smollm2"),
        (["1 + 1 = 2", "it is with ann", "3 - 1 = 2", "so it is"], "prose_sums"),
        (["it is with ann", "so it is with bob"], "tracking"),
    ],
)
def test_the_nearest_world_of_other_checkpoints_is_the_one_whose_steps_are_read_alike(texts, world, tmp_path):
    own = dict.fromkeys(("base", "distilled", "zero_rl"), "x")
    study = Study(check_config({"checkpoints": own, "traces": {"file": "x.jsonl"}}, "x"), tmp_path)
    study.folder("traces").mkdir(parents=True)
    rows = {"model": ["base", *["distilled"] * len(texts)], "text": ["1 + 1 = 2", *texts]}
    pl.DataFrame(rows).write_parquet(study.folder("traces") / "traces.parquet")
    assert nearest(study, EQUATIONS)[0] == world
    organism = Study(check_config({"task": {"kind": "lists"}}, "x"), tmp_path)
    assert nearest(organism, EQUATIONS)[0] == "lists"
    without = nearest(organism, {"chains", "tracking"})[0]
    assert without == ("tracking" if world == "tracking" else "chains"), "its own world is not among them"


def test_every_world_has_its_share_of_equations():
    for name, world in WORLDS.items():
        problems, rng = world.task(4).problems(400, 0, "train"), random.Random(0)
        texts = [KINDS["functional"].write(p.prompt, rng, world) for p in problems]
        assert sum(bool(equations(text)) for text in texts) / 400 == pytest.approx(EQUATIONS[name], abs=0.08)


def test_what_comes_with_the_package_is_of_one_set_of_rules_and_of_known_truths():
    table = published()
    assert table.schema == pl.Schema(COLUMNS)
    assert PUBLISHED.parent.name == "calibration"
    assert table.group_by("world").agg(pl.col("registration").n_unique())["registration"].max() in (None, 1)
    assert {*table.select("kind", "truth").rows()} <= {(name, kind.truth) for name, kind in KINDS.items()}
    assert table.select(ORGANISM).is_unique().all()
