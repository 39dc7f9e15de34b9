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

from interp.config import load_config
from interp.errors import InterpError
from interp.folders import file_digest
from interp.pipeline import STAGES, run_stage, run_study
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
    words = ("decorative", "functional", "stylistic", "redundant", "undetermined", "no gain")
    assert verdict["verdict"] in words
    assert verdict["truth"] == "functional"
    for key in ("gain", "mediated_fraction"):
        assert set(verdict[key]) in (NUMBER, {"refused"})
    assert list(verdict["models"]) == ["base", "distilled", "zero_rl", "control"]
    for numbers in verdict["models"].values():
        for key in ("accuracy", "accuracy_greedy", "marker_density", "verification_rate", "length"):
            assert set(numbers[key]) in (NUMBER, {"refused"})


def test_every_effect_stands_beside_its_controls(study: Path) -> None:
    effects = pl.read_parquet(study / "causal" / "effects.parquet")
    assert set(effects["family"]) >= {"style", "function", "both", "steering"}
    compared = effects.filter(
        ~pl.col("arm").is_in(["reconstruction only", "error only"]) & pl.col("estimate").is_not_null()
    )
    # An outcome that never occurred in a control draw has no value there.
    assert compared.filter(pl.col("outcome").is_in(["accuracy", "length", "log-probability"]))["n_controls"].min() >= 20
    assert (compared["low"] <= compared["estimate"]).all()
    assert (compared["estimate"] <= compared["high"]).all()


def test_patched_accuracy_of_an_echo_never_verifies(study: Path) -> None:
    """The removal of the function does remove it: no wrong step is repaired any more."""
    effects = pl.read_parquet(study / "causal" / "effects.parquet").filter(pl.col("outcome") == "verification_rate")
    row = effects.filter(pl.col("family") == "function").row(0, named=True)
    assert row["untouched"] + row["estimate"] == pytest.approx(0.0, abs=1e-9)
    banned = pl.read_parquet(study / "causal" / "effects.parquet").filter(
        (pl.col("outcome") == "marker_density") & pl.col("family").is_in(["style", "both"])
    )
    for row in banned.iter_rows(named=True):
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
        for name in ("checkpoints", "traces"):
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
