"""The command from nothing to a page, again, interrupted, moved, and on the user's own models and data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

from interp.causal.arms import REMOVALS
from interp.causal.effects import effects as effect_rows
from interp.causal.effects import table
from interp.causal.marker_patching import patching_rows, read_patches
from interp.causal.runs import UNTOUCHED, read_runs
from interp.causal.verdict import VERDICTS, as_json, conclude
from interp.config import load_config
from interp.crosscoder import Crosscoder
from interp.errors import InterpError
from interp.features.catalogue import behaviours
from interp.features.codes import encode_sparse
from interp.folders import file_digest
from interp.models.trio import open_trio
from interp.names import COMPARED
from interp.pipeline import STAGES, run_stage, run_study
from interp.report.effects import edited
from interp.stages.decisions import held_back
from interp.stages.features import labelled
from interp.study import Study
from interp.summary import print_summary
from tests.end_to_end.conftest import CONFIG, interp

NUMBER = {"estimate", "low", "high"}


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file's checksum and time."""
    return {
        str(p.relative_to(folder)): (file_digest(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_every_stage_leaves_a_complete_folder(study: Path) -> None:
    assert sorted(p.name for p in study.iterdir()) == sorted(stage.name for stage in STAGES)
    for stage in STAGES:
        manifest = json.loads((study / stage.name / "manifest.json").read_text())
        assert manifest["wall_seconds"] > 0
        assert manifest["rows"] > 0
        for name, digest in manifest["files"].items():
            assert file_digest(study / stage.name / name) == digest


def test_the_verdict_file_has_its_form(study: Path) -> None:
    verdict = json.loads((study / "report" / "verdict.json").read_text())
    assert verdict["verdict"] in VERDICTS
    assert verdict["truth"] == "functional"
    for key in ("gain", "gain_over_control", "mediated_fraction"):
        assert set(verdict[key]) in (NUMBER, {"refused"})
    assert list(verdict["models"]) == ["base", "distilled", "zero_rl", "control"]
    for numbers in verdict["models"].values():
        for key in ("accuracy", "accuracy_greedy", "marker_density", "verification_rate", "length"):
            assert set(numbers[key]) in (NUMBER, {"refused"})
    assert {arm["claim"] for arm in verdict["arms"].values()} == set(REMOVALS)
    for arm in verdict["arms"].values():
        assert set(arm["own"]) == set(arm["net"]) == NUMBER
        assert arm["reading"] in ("drop", "no drop", "rise", "undetermined")
        assert arm["failed"] == [check["problem"] for check in arm["checks"] if not check["passed"]]
    assert all(not verdict["arms"][name]["failed"] for name in verdict["read_from"].values())
    assert 0 <= verdict["coverage"] <= 1


def test_the_runs_are_one_table_of_all_arms(study: Path) -> None:
    folder = study / "causal" / "runs"
    index = json.loads((folder / "index.json").read_text())
    assert {path.stem for path in folder.glob("*.parquet")} == set(index["parts"])
    runs = read_runs(folder)
    effects = pl.read_parquet(study / "causal" / "effects.parquet").filter(pl.col("family") != "patching")
    assert set(runs.arms) == set(effects["arm"])
    mine = effects.filter(pl.col("outcome") == "accuracy")
    for row in mine.iter_rows(named=True):
        edited = runs.outcomes(row["arm"], 0, row["model"], row["decoding"])
        before = runs.outcomes(UNTOUCHED, 0, row["model"], row["decoding"], runs.numbers(row["arm"], 0, row["model"]))
        assert row["estimate"] == pytest.approx(edited.value("accuracy") - before.value("accuracy"))


def test_every_number_follows_from_the_rows_of_runs_and_patches(study: Path) -> None:
    """The table of effects and the verdict, again, from the two folders of rows and nothing else that was computed but
    the perplexities and the words that no lexicon lists, which the verdict holds."""
    folder, config = study / "causal", load_config(CONFIG)
    written = json.loads((folder / "verdict.json").read_text())
    runs, patches = read_runs(folder / "runs"), read_patches(folder / "patches")
    assert {path.stem for path in (folder / "patches").glob("*.parquet")} == set(
        json.loads((folder / "patches" / "index.json").read_text())["parts"]
    )
    words = [word["word"] for word in written["unlisted"]]
    shared = {"resamples": config.causal.resamples, "seed": config.seed, "coherence": written["perplexity"]}
    verdict = conclude(
        runs,
        bound=config.causal.bound,
        guard=config.causal.coherence,
        found=words,
        coverage=written["coverage"],
        **shared,
    )
    assert json.loads(json.dumps(as_json(verdict))) == {key: written[key] for key in as_json(verdict)}
    failed = {name: arm["failed"] for name, arm in written["arms"].items()}
    rows = effect_rows(runs, guard=config.causal.coherence, failed=failed, **shared)
    again = table([*patching_rows(patches, config.causal.resamples, config.seed), *rows])
    assert again.equals(pl.read_parquet(folder / "effects.parquet"))


def test_latents_are_selected_on_other_problems_than_they_are_tested_on(study: Path) -> None:
    """The table of latents, again, from the rows of the untested problems; with all rows it is another."""
    it = Study(load_config(CONFIG), study)
    asked = held_back(it)
    assert len(asked) == it.config.sites.held_back == 64
    runs = read_runs(study / "causal" / "runs")
    latents = pl.read_parquet(study / "features" / "latents.parquet")
    arms = [name for name, about in runs.arms.items() if about["family"] in ("latents", "steering")]
    assert arms and all(set(runs.rows(name)["problem"]) == set(asked) for name in arms)
    trio, cc = open_trio({n: str(study / "checkpoints" / n) for n in COMPARED}), Crosscoder.load(study / "crosscoder")
    for without, same in ((asked, True), ([], False)):
        data = labelled(it, trio.tokenizer, without)
        again = behaviours(encode_sparse(cc, data.rows), data, it.config.features.auroc, it.config.features.q)
        assert again.equals(latents.select(again.columns)) == same


def test_every_effect_stands_beside_its_controls(study: Path) -> None:
    effects, config = pl.read_parquet(study / "causal" / "effects.parquet"), load_config(CONFIG).causal
    assert set(effects["family"]) >= {"style", "function", "both", "steering"}
    compared = effects.filter(
        ~pl.col("arm").is_in(["reconstruction only", "error only"]) & pl.col("estimate").is_not_null()
    )
    free = pl.col("decoding") == "sampled", pl.col("model") == "distilled"
    # An outcome that never occurred in a control draw has no value there, and few words can be put in a word's place.
    here = compared.filter(pl.col("outcome").is_in(["accuracy", "length"]), *free)
    draws = {name: group["n_controls"].min() for (name,), group in here.group_by("family")}
    assert draws["steering"] == draws["function"] == config.controls
    assert draws["style"] >= 1 and draws["both"] >= 1  # type: ignore[operator]
    forced = compared.filter(pl.col("outcome") == "log-probability")
    assert (forced["n_controls"] == config.forced_controls).all()
    others = compared.filter((pl.col("decoding") == "greedy") | (pl.col("model") != "distilled"))
    assert set(others["model"]) == {"distilled", "base", "control"}
    assert others["n_controls"].is_null().all() and others["p"].is_null().all()
    assert (compared["low"] <= compared["estimate"]).all()
    assert (compared["estimate"] <= compared["high"]).all()


def test_patched_accuracy_of_an_echo_never_verifies(study: Path) -> None:
    """The removal of the function does remove it: no wrong step is repaired any more."""
    effects = edited(pl.read_parquet(study / "causal" / "effects.parquet"))
    echoed = effects.filter(pl.col("outcome") == "verification_rate", pl.col("arm").str.ends_with("the first result"))
    assert len(echoed) == 2
    banned = effects.filter(pl.col("outcome") == "marker_density", pl.col("family").is_in(["style", "both"]))
    for row in (*echoed.iter_rows(named=True), *banned.iter_rows(named=True)):
        assert row["untouched"] + row["estimate"] == pytest.approx(0.0, abs=1e-9)


def test_a_second_run_does_nothing(study: Path) -> None:
    before = snapshot(study)
    done = interp("study", CONFIG, "--out", study)
    assert done.returncode == 0
    assert done.stdout.count("done already") == len(STAGES)
    assert snapshot(study) == before


def test_another_config_is_refused_and_nothing_is_touched(study: Path) -> None:
    before = snapshot(study)
    done = interp("crosscoder", CONFIG, "--out", study, "--crosscoder.shape.k", "5")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "crosscoder.shape.k = 6, now 5" in done.stderr
    assert "--force" in done.stderr
    assert snapshot(study) == before


def test_a_damaged_input_is_named(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(study, copy)
    shutil.rmtree(copy / "crosscoder")
    shard = copy / "activations" / "shard_00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    done = interp("crosscoder", CONFIG, "--out", copy)
    assert done.returncode == 2
    assert "shard_00000.safetensors is altered" in done.stderr
    assert not (copy / "crosscoder").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints/zero_rl/model.safetensors",
        "traces/manifest.json",
        "activations/shard_00000.safetensors",
        "crosscoder/evaluation.json",
        "features/latents.parquet",
        "causal/effects.parquet",
        "causal/runs/index.json",
        "report/verdict.json",
        "report/index.html",
    ],
)
def test_a_finished_study_that_is_damaged_is_not_done(study: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(study, copy, copy_function=os.link)
    (copy / name).unlink()
    shutil.copy2(study / name, copy / name)
    flip(copy / name)
    with pytest.raises(InterpError) as caught:
        run_study(Study(load_config(CONFIG), copy), say=lambda _: None)
    assert str(copy / Path(name).parts[0]) in str(caught.value) and Path(name).name in str(caught.value)


def test_the_summary_names_a_file_that_cannot_be_read(study: Path, tmp_path: Path) -> None:
    for name in ("report/verdict.json", "causal/effects.parquet"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(study, copy)
        (copy / name).write_text("x")
        with pytest.raises(InterpError, match=f"{copy / name} cannot be read"):
            print_summary(Study(load_config(CONFIG), copy))


def test_a_folder_whose_name_is_a_pattern_keeps_to_its_own_data(study: Path, tmp_path: Path) -> None:
    """`sweep[1]` is read as it stands, not as a pattern that matches its sibling `sweep1`."""
    here, sibling = tmp_path / "sweep[1]", tmp_path / "sweep1"
    for root in (here, sibling):
        for name in ("checkpoints", "traces", "sites"):
            shutil.copytree(study / name, root / name)
    table = pl.read_parquet(study / "traces" / "traces.parquet")
    table.filter(pl.col("problem") == table["problem"][0]).write_parquet(sibling / "traces" / "traces.parquet")
    run_stage(Study(load_config(CONFIG), here), "activations", say=lambda _: None)
    ours, truth = (json.loads((root / "activations" / "manifest.json").read_text()) for root in (here, study))
    assert ours["files"] == truth["files"]


def test_a_killed_study_resumes_to_the_same_bits(study: Path, tmp_path: Path) -> None:
    """A real kill while the descendants train, after a second run into the same folder was refused; the run after it
    keeps the base, and ends with the same weights and the same verdict as the run that was never interrupted."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "interp.cli", "study", str(CONFIG), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    base = out / ".checkpoints.partial" / "base" / "model.safetensors"
    deadline = time.monotonic() + 300
    while not base.parents[1].exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    second = interp("study", CONFIG, "--out", out, "--seed", "4")
    assert second.returncode == 2
    assert f"another run is writing {out / 'checkpoints'} (process {process.pid})" in second.stderr
    assert second.stderr.strip().count("\n") == 0
    while not base.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert base.exists()
    assert not (out / "checkpoints").exists()
    assert base.parent.with_name(".base.unit").exists()
    kept = base.stat().st_mtime_ns
    done = interp("study", CONFIG, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "checkpoints" / "base" / "model.safetensors").stat().st_mtime_ns == kept
    verdicts = [(folder / "report" / "verdict.json").read_bytes() for folder in (study, out)]
    assert verdicts[0] == verdicts[1]
    assert sorted(p.name for p in out.iterdir()) == sorted(stage.name for stage in STAGES)
    for name in ("checkpoints/zero_rl", "checkpoints/distilled", "crosscoder"):
        ours, theirs = (load_file(folder / name / "model.safetensors") for folder in (study, out))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key].equal(theirs[key]), (name, key)


def test_a_killed_causal_stage_takes_up_the_runs_that_were_done(study: Path, tmp_path: Path) -> None:
    """A real kill once some runs are written: they and the patches are kept, and the rest gives the same table and
    verdict."""
    out = tmp_path / "killed"
    shutil.copytree(study, out, ignore=shutil.ignore_patterns("causal", "report"))
    command = [sys.executable, "-m", "interp.cli", "causal", str(CONFIG), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    runs = out / ".causal.partial" / "runs"
    deadline = time.monotonic() + 300
    while len([*runs.glob("*.parquet")]) < 8 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = [*runs.glob("*.parquet"), *(runs.parent / "patches").glob("*.parquet")]
    done = {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in kept}
    parts = json.loads((study / "causal" / "runs" / "index.json").read_text())["parts"]
    written = sum(name.startswith("runs/") for name in done)
    assert 8 <= written < len(parts) and len(done) > written
    assert not (out / "causal").exists()
    resumed = interp("causal", CONFIG, "--out", out)
    assert resumed.returncode == 0, resumed.stderr
    assert {name: (out / "causal" / name).stat().st_mtime_ns for name in done} == done
    for name in ("effects.parquet", "verdict.json", "runs/index.json"):
        assert (out / "causal" / name).read_bytes() == (study / "causal" / name).read_bytes()


def test_own_checkpoints_and_own_problems(study: Path, tmp_path: Path) -> None:
    """Three other folders and a JSONL file, no code changed; the truth is then unknown."""
    folders = {}
    for name in ("base", "distilled", "zero_rl"):
        folders[name] = tmp_path / f"my-{name}"
        shutil.copytree(study / "checkpoints" / name, folders[name])
    traces = pl.read_parquet(study / "traces" / "traces.parquet").filter(pl.col("model") == "base")
    rows = [
        {"question": row["prompt"], "answer": int(row["text"][-1]), "trace": row["text"]}
        for row in traces.filter(pl.col("correct")).iter_rows(named=True)
    ]
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "mine.yaml"
    config.write_text(
        CONFIG.read_text().replace("name: tiny", "name: mine")
        + f"checkpoints: {{base: {folders['base']}, distilled: {folders['distilled']}, "
        f"zero_rl: {folders['zero_rl']}, control: null}}\n"
    )
    out = tmp_path / "mine"
    options = ("--traces.file", problems, "--traces.labels", "construction", "--traces.modulus", "10")
    done = interp("study", config, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((out / "report" / "verdict.json").read_text())
    assert verdict["truth"] is None
    assert list(verdict["models"]) == ["base", "distilled", "zero_rl"]
    texts = pl.read_parquet(out / "activations" / "texts.parquet")
    assert (texts["model"] == "given").sum() == len(rows)
    # The same models on the same prompts: greedy answers cannot depend on where the problems came from.
    greedy = pl.read_parquet(out / "traces" / "greedy.parquet").filter(pl.col("model") == "base")
    assert len(greedy) == len(rows)


def test_last_reward_agrees_with_own_accuracy(study: Path) -> None:
    """The trainer's reward and the project's own sampler measure the same thing on the same policy: here the base,
    whose completions GRPO rewards at its first update, before any step was taken."""
    curve = pl.read_parquet(study / "checkpoints" / "training.parquet").filter(pl.col("metric") == "reward")
    first = curve.sort("step")["value"][0]
    summary = pl.read_parquet(study / "traces" / "summary.parquet")
    own = summary.filter((pl.col("model") == "base") & (pl.col("metric") == "accuracy")).row(0, named=True)
    completions, group = 64, 8
    # Completions of one problem are correlated, so the group is the unit of the reward's standard error.
    spread = 1.96 * (0.25 / (completions / group)) ** 0.5
    assert own["low"] - spread <= first <= own["high"] + spread
