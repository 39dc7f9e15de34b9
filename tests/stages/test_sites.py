"""The stage `sites` on small random models and traces written by hand."""

import json

import polars as pl
import pytest
from small import small_model
from steering.samples import PLAIN, make_study

from interp.config import check_config
from interp.features import sites as scanning
from interp.models.hooks import Site
from interp.models.trio import open_trio
from interp.names import COMPARED
from interp.organisms.chains import CHAINS
from interp.stages import decisions, sites
from interp.stages.decisions import Decisions, held_back, site_of
from interp.stages.traces import checkpoint_paths
from interp.study import Study


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study of 24 problems; every second text of the distilled model works a step again."""
    folder = tmp_path_factory.mktemp("sites")
    return make_study(folder, {name: small_model(seed) for seed, name in enumerate(COMPARED)}, CHAINS.tokenizer())


def with_config(study, **sections):
    raw = study.config.model_dump(mode="json")
    changed = {name: raw.get(name, {}) | values for name, values in sections.items()}
    return Study(check_config(raw | changed, "here"), study.root)


def ran(study, out):
    out.mkdir()
    n = sites.run(study, out)
    table = pl.read_parquet(out / "sites.parquet")
    assert n == len(table)
    return table, pl.read_parquet(out / "injected.parquet"), json.loads((out / "site.json").read_text())


@pytest.fixture
def few(monkeypatch):
    """Two pairs in a half are enough."""
    monkeypatch.setattr(sites, "FEWEST", 2)
    monkeypatch.setattr(scanning, "FEWEST", 2)


AUTO = {"activations": {"layer": "auto"}}


def test_every_site_of_every_model_is_scanned(written, tmp_path, few):
    study = with_config(written, sites={"held_back": 8}, **AUTO)
    table, _, told = ran(study, tmp_path / "out")
    contrasts = {
        c.name for c in Decisions(study, open_trio(checkpoint_paths(study))).contrasts if c.smaller_half() >= 2
    }
    assert contrasts >= {"wrong / right", "onset / fork"}
    assert table.group_by("model", "contrast").len()["len"].unique().to_list() == [3 * 4]
    assert set(table["model"]) == set(COMPARED) and set(table["contrast"]) == contrasts
    patched = {name: table.filter(pl.col("model") == name)["denoising"].to_list() for name in COMPARED}
    assert len(set(map(tuple, patched.values()))) == len(COMPARED), "each of them reads the texts itself"
    assert table["auroc"].is_between(0, 1).all() and (table["low"] <= table["high"]).all()
    assert told["pairs"].keys() == {"wrong / right", "onset / fork", "marker / neutral", "second / first"}
    assert told["margin"]["onset"] == [","] and set(told["margin"]["other"]) == {";", "####"}


def test_random_models_decide_nothing_and_the_middle_block_is_read(written, tmp_path, few):
    study = with_config(written, sites={"held_back": 8, "auroc": 1.0, "carried": 1.0}, **AUTO)
    _, _, told = ran(study, tmp_path / "out")
    assert told["chosen"] is None and told["read"] == {"layer": 1, "name": "resid_post"}
    assert "wrong / right" in told["why"]


@pytest.mark.parametrize(
    ("activations", "site"),
    [
        ({"layer": 0}, Site(0, "resid_post")),
        ({"layer": 2, "site": "resid_mid"}, Site(2, "resid_mid")),
        ({"layer": "auto", "site": "resid_mid"}, Site(1, "resid_mid")),
    ],
)
def test_the_site_that_the_config_names_is_read(written, tmp_path, activations, site):
    study = with_config(written, activations=activations)
    _, _, told = ran(study, tmp_path / "out")
    assert Site(**told["read"]) == site
    assert told["chosen"] is None and "too few" in told["why"], "24 problems are not enough to choose any"
    moved = Study(study.config, tmp_path)
    (tmp_path / "out").rename(tmp_path / "sites")
    assert site_of(moved) == site


def test_errors_are_injected_into_every_models_own_steps_on_problems_that_are_not_held_back(written, tmp_path):
    study = with_config(written, sites={"held_back": 8, "problems": 10})
    _, injected, _ = ran(study, tmp_path / "out")
    problems = (
        pl.read_parquet(study.root / "traces" / "traces.parquet")["problem"].unique(maintain_order=True).to_list()
    )
    assert held_back(study) == problems[:8]
    for name in COMPARED:
        mine = injected.filter(pl.col("model") == name)
        assert set(mine["problem"]) <= set(problems[8:18]) and len(mine) >= 9
        prefix = PLAIN.split(" ; ")[0].split(" = ")[0]
        assert all(len(text) > len(prefix) for text in mine["text_right"])
    assert not injected["checks_wrong"].is_null().any() and injected["variation"].is_between(0, 1).all()
    summary = pl.read_parquet(tmp_path / "out" / "noticed.parquet")
    own = injected.filter(pl.col("model") == "zero_rl")["correct_right"].mean()
    row = summary.row(by_predicate=(pl.col("model") == "zero_rl") & (pl.col("measure") == "correct_right"), named=True)
    assert row["estimate"] == pytest.approx(own) and row["low"] <= own <= row["high"]
    assert row["n"] == len(injected.filter(pl.col("model") == "zero_rl"))


def test_a_killed_run_resumes_at_the_model_that_was_not_done(written, tmp_path, monkeypatch):
    study, loaded, load = with_config(written), [], decisions.load_model

    def failing(name, path, device):
        loaded.append(name)
        if name == "zero_rl" and loaded.count(name) == 1:
            raise KeyboardInterrupt
        return load(name, path, device)

    monkeypatch.setattr(decisions, "load_model", failing)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        sites.run(study, out)
    sites.run(study, out)
    assert loaded == ["base", "distilled", "zero_rl", "zero_rl", "distilled"], "the last to tell its decisions again"
    monkeypatch.undo()
    whole, injected, told = ran(study, tmp_path / "whole")
    assert whole.equals(pl.read_parquet(out / "sites.parquet"))
    assert injected.equals(pl.read_parquet(out / "injected.parquet"))
    assert told == json.loads((out / "site.json").read_text())


def test_without_any_onset_nothing_can_be_chosen_and_the_page_can_say_so(tmp_path):
    models = {name: small_model(seed) for seed, name in enumerate(COMPARED)}
    (tmp_path / "study").mkdir()
    study = make_study(tmp_path / "study", models, CHAINS.tokenizer(), texts=(PLAIN,))
    _, injected, told = ran(with_config(study, **AUTO), tmp_path / "out")
    assert told["margin"] is None and told["chosen"] is None
    assert injected["p_onset_wrong"].is_null().all() and len(injected) > 0, "the ends of steps stand for forks"
