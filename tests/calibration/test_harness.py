"""The whole harness on two tiny organisms: registered, read by studies in processes of their own, and counted."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from interp.calibration import coverage
from interp.calibration.organisms import ROW, SCHEMA, Unit, study_of
from interp.calibration.power import SIZES, part_of, verdicts
from interp.causal.runs import UNTOUCHED, read_runs
from interp.config import load_config
from interp.stages.problems import test_problems as problems_of

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
SCRIPT = CONFIGS.parent / "calibration.py"
KINDS, SEED = ("coupled", "gated"), 5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, what the script printed); its two studies run side by side."""
    root = tmp_path_factory.mktemp("harness")
    (root / "configs").mkdir()
    config = load_config(CONFIGS / "tiny.yaml").model_dump(mode="json")
    (root / "configs" / "chains.yaml").write_text(json.dumps(config))
    script(root, "--register", "--tuning", "1", "--seeds", str(SEED))
    return root, script(root, "--kinds", *KINDS)


def script(root, *words):
    places = ["--configs", root / "configs", "--registration", root / "fixed.json", "--out", root / "out"]
    done = subprocess.run([sys.executable, SCRIPT, *places, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unit(root, kind):
    return study_of(load_config(root / "configs" / "chains.yaml"), Unit("chains", kind, SEED), root / "out")


def test_both_organisms_are_read_and_counted(run):
    root, printed = run
    table = pl.read_parquet(root / "out" / "organisms.parquet")
    assert table.select("world", "family", "kind", "seed", "reported").rows() == [
        ("chains", "qwen2", kind, SEED, True) for kind in KINDS
    ]
    assert table["error"].null_count() == 2 and table["truth"].to_list() == [
        "functional, opened by its words",
        "stylistic",
    ]
    always = ["verdict", "circuit", "site", "accuracy_base", "accuracy_distilled", "words_found", "commit"]
    always += [f"{name}_{n}" for n in SIZES for name in ("verdict", "circuit")]
    assert not table.select(always).null_count().sum_horizontal().item()
    assert table["words_planted"].to_list() == [0, 0]
    rates = pl.read_parquet(root / "out" / "rates.parquet")
    assert set(rates["world"]) == {"all", "chains"}
    assert rates.filter(world="all", instrument="verdict", rate="right")["of"].item() == 2
    assert "chains-coupled-5: done" in printed and "chains-gated-5: done" in printed


def test_a_second_call_reads_them_from_their_rows(run):
    root, _ = run
    before = pl.read_parquet(root / "out" / "organisms.parquet")
    for kind in KINDS:
        row = json.loads((unit(root, kind).root / ROW).read_text())
        assert {name: row.get(name) for name in SCHEMA} == before.filter(kind=kind).drop("reported").row(0, named=True)
        # Only a row of the report that is there is taken.
        (unit(root, kind).root / ROW).write_text(json.dumps(row | {"verdict": "another", "manifest": "older"}))
    script(root, "--kinds", *KINDS)
    assert pl.read_parquet(root / "out" / "organisms.parquet").equals(before)
    (unit(root, "gated").root / ROW).write_text(json.dumps(row | {"verdict": "kept"}))
    script(root, "--kinds", *KINDS)
    assert pl.read_parquet(root / "out" / "organisms.parquet")["verdict"].to_list()[1] == "kept"


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_problems_the_verdicts_are_the_studys_own(run, kind):
    study = unit(run[0], kind)
    written = json.loads((study.folder("causal") / "verdict.json").read_text())
    found = verdicts(study, [written["problems"]])
    assert found == {96: {"verdict": written["verdict"], "circuit": written["circuit"]["verdict"]}}


def test_a_part_has_the_first_problems_of_each_half_in_every_run(run):
    runs = read_runs(unit(run[0], "gated").folder("causal") / "runs")
    part = part_of(runs, 40, 96)
    wanted = {*range(20), *range(48, 68)}
    assert set(part.numbers(UNTOUCHED)) == wanted
    for name in runs.arms:
        for draw in (0, *runs.draws(name)):
            assert set(part.numbers(name, draw)) == wanted & set(runs.numbers(name, draw))


def test_replicates_are_of_other_problems_and_are_kept(run, tmp_path):
    study = unit(run[0], "coupled")
    several = coverage.other_problems(study, 3)
    ids = [{p.id for p in problems} for problems in several]
    assert [len(problems) for problems in ids] == [96] * 3
    assert not ids[0] & ids[1] and not ids[1] & ids[2] and not ids[0] & ids[2]
    assert not set().union(*ids) & {p.id for p in problems_of(study.config)}
    found = coverage.replicated(study, range(2), tmp_path)
    assert found.filter(quantity="gain")["replicate"].to_list() == [0, 1]
    gains = found.filter(quantity="gain")["estimate"]
    runs = read_runs(tmp_path / "runs_1" / "runs")
    own, base = (runs.outcomes(UNTOUCHED, 0, model).value("accuracy") for model in ("distilled", "base"))
    assert gains[1] == pytest.approx(own - base) and runs.table["problem"].is_in(list(ids[1])).all()
    kept = (tmp_path / "replicate_0.parquet").read_bytes()
    coverage.replicated(study, range(1), tmp_path)
    assert (tmp_path / "replicate_0.parquet").read_bytes() == kept


def test_coverage_by_hand():
    """Four intervals, of which the second misses the mean of the three others; one quantity is refused once."""
    rows = [(0, "a", 1.0, 0.0, 2.0), (1, "a", 5.0, 4.0, 6.0), (2, "a", 1.5, 1.0, 3.0), (3, "a", 0.5, 0.0, 3.0)]
    rows += [(0, "b", None, None, None), (1, "b", 2.0, 1.0, 3.0)]
    first, second = coverage.coverage(pl.DataFrame(rows, schema=coverage.SCHEMA, orient="row"))
    assert (first.quantity, first.exact, first.held, first.of) == ("a", 2.0, 2, 4)
    assert first.error == pytest.approx((sum((x - 2) ** 2 for x in (1, 5, 1.5, 0.5)) / 3 / 4) ** 0.5)
    assert (second.quantity, second.exact, second.of) == ("b", 2.0, 0)
