import random
from pathlib import Path

import polars as pl
import pytest

from interp.config import check_config
from interp.errors import InterpError
from interp.folders import write_manifest
from interp.locks import locked
from interp.organisms.chains import CHAINS
from interp.organisms.documents import functional, noisy, plain, right, strewn
from interp.pipeline import BY_NAME, stage_config
from interp.tasks.chains import ChainTask
from interp.traces.tokens import encode
from tests.scripts import load_script

WRITERS = {
    "base": lambda prompt, rng: strewn(prompt, rng, noisy, words=0.5, marker_share=0.2),
    "distilled": functional,
    "zero_rl": lambda prompt, rng: plain(prompt, rng, work=right),
}


@pytest.fixture(scope="module")
def script():
    return load_script("trace_analysis")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose stage `traces` is done, its texts by the organisms' own writers."""
    folder = tmp_path_factory.mktemp("study")
    tokenizer, rows = CHAINS.tokenizer(), []
    for model, write in WRITERS.items():
        rng = random.Random(model)
        for problem in ChainTask().problems(120, 0, "test"):
            text = write(problem.prompt, rng)
            ids = encode(tokenizer, text)
            rows.append(
                {"problem": problem.id, "model": model, "text": text, "n_tokens": len(ids), "completion_ids": ids}
            )
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "traces").mkdir()
    pl.DataFrame(rows).write_parquet(folder / "traces" / "traces.parquet")
    manifest = {"files": {}, "config_hash": "", "config": stage_config(BY_NAME["traces"], check_config({}, "test"))}
    write_manifest(folder / "traces", manifest)
    return folder


def test_a_study_is_read_printed_written_and_drawn(script, study, tmp_path, capsys):
    script.main(script.Options(study, out=tmp_path, tokenizer=str(study / "tokenizer")))
    printed = capsys.readouterr().out
    for title in ("Phrases per 100 tokens", "distilled minus base", "Words by log-odds", "shares of tokens", "kappa"):
        assert title in printed
    tables = {path.stem: pl.read_parquet(path) for path in tmp_path.glob("*.parquet")}
    assert set(tables) == {"densities", "changes", "words", "stages", "counters"}
    assert {p.suffix for p in tmp_path.glob("trace_analysis.*")} == {".svg", ".png"}
    shares = tables["stages"].group_by("model").agg(pl.col("estimate").sum())["estimate"]
    assert shares.to_list() == pytest.approx([1, 1, 1])
    top = tables["words"].filter(pl.col("more_in") == "base").tail(6)["word"].to_list()
    assert set(top) <= {"next", "now", "here", "then", "onward", "further"}
    kappas = {(r["model"], r["behaviour"]): r["kappa_estimate"] for r in tables["counters"].to_dicts()}
    assert kappas["distilled", "reflection"] > 0.2
    assert kappas["zero_rl", "reflection"] is None


def test_prose_without_a_judge_has_no_counters_and_says_so(script, study, tmp_path, capsys):
    config = check_config({"traces": {"labels": "sentences"}}, "test")
    rollouts = pl.read_parquet(study / "traces" / "traces.parquet")
    options = script.Options(study, out=tmp_path)
    assert len(script.counter_table(options, config, rollouts, script.load_lexicon("default"))) == 0
    assert "--judge-url" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"study": Path("none")}, "none/traces is not there"),
        ({"models": ("distilled", "zero")}, "'zero'"),
        ({"judge_url": "http://localhost"}, "--judge-model"),
        ({"lexicon": "nope"}, "'nope'"),
        ({"ngram": 0}, "--ngram"),
        ({"tokenizer": "/none"}, "--tokenizer"),
    ],
)
def test_what_the_user_can_mend_is_named(script, study, tmp_path, changes, named):
    with pytest.raises(InterpError, match=named):
        script.main(script.Options(**{"study": study, "out": tmp_path, **changes}))


def test_a_folder_that_another_run_writes_is_left_alone(script, study, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(InterpError, match="another run is writing"):
        script.main(script.Options(study, out=tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
