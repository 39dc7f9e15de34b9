"""Units of a calibration: what siblings share, what is resumed, and what is counted where a study fails."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import psutil
import pytest

from interp.calibration import organisms
from interp.calibration.naive import BAN
from interp.calibration.organisms import (
    LOG,
    PRETRAINED,
    Unit,
    adopt,
    in_turn,
    run_units,
    study_of,
    table,
    varied,
    words,
)
from interp.calibration.power import SIZES
from interp.causal.arms import FUNCTION, STYLE
from interp.config import check_config, load_config
from interp.errors import InterpError
from interp.folders import file_digest, new_manifest, write_manifest
from interp.names import MODELS
from interp.organisms.kinds import KINDS
from interp.organisms.recipes import OF_EVERY_KIND
from interp.pipeline import run_stage

CONFIG = Path(__file__).parents[2] / "experiments" / "configs" / "tiny.yaml"
SCRIPT = Path(__file__).parents[2] / "experiments" / "calibration.py"


@pytest.fixture(scope="module")
def config():
    raw = load_config(CONFIG).model_dump(mode="json")
    organism = raw["organism"]
    organism["pretraining"] |= {"steps": 3, "batch_size": 8}
    organism["distillation"] |= {"traces": 16, "steps": 3, "batch_size": 8}
    organism["zero_rl"] |= {"steps": 1, "completions": 16, "group_size": 8, "max_new_tokens": 8}
    return check_config(raw, "small")


def weights(study):
    return {name: file_digest(study.folder("checkpoints") / name / "model.safetensors") for name in MODELS}


def trained(study):
    run_stage(study, "checkpoints", say=lambda _: None)
    return study


def test_siblings_have_the_bits_that_they_would_have_trained(config, tmp_path):
    unit = Unit("chains", "coupled", 5)
    first = trained(study_of(config, Unit("chains", "functional", 5), tmp_path))
    alone, helped = (study_of(config, unit, tmp_path / name) for name in ("alone", "helped"))
    trained(alone)
    assert adopt(helped, first)
    scratch = helped.folder("checkpoints").with_name(".checkpoints.partial")
    assert {path.name for path in scratch.iterdir() if not path.name.startswith(".")} == {*OF_EVERY_KIND}
    trained(helped)
    assert weights(helped) == weights(alone)
    assert weights(helped)["distilled"] != weights(first)["distilled"]
    assert {name for name in MODELS if weights(helped)[name] == weights(first)[name]} == {*OF_EVERY_KIND}


def test_nothing_is_taken_from_another_seed_another_config_or_a_damaged_study(config, tmp_path):
    first = trained(study_of(config, Unit("chains", "functional", 5), tmp_path))
    assert not adopt(study_of(config, Unit("chains", "coupled", 6), tmp_path / "a"), first)
    raw = config.model_dump(mode="json")
    raw["organism"]["pretraining"]["steps"] = 4
    assert not adopt(study_of(check_config(raw, "longer"), Unit("chains", "coupled", 5), tmp_path / "b"), first)
    (first.folder("checkpoints") / "control" / "model.safetensors").write_bytes(b"")
    assert not adopt(study_of(config, Unit("chains", "coupled", 5), tmp_path / "c"), first)
    assert not adopt(
        study_of(config, Unit("chains", "coupled", 5), tmp_path / "d"),
        study_of(config, Unit("chains", "plain", 5), tmp_path),
    )


def test_units_differ_in_kind_and_seed_alone(config, tmp_path):
    rounds = ["chains-gated-1", "chains-gated-2", "chains-plain-1", "chains-plain-2"]
    rounds += [name.replace("chains", "lists") for name in rounds]
    rounds += [f"{world}-{kind}-3" for world in ("chains", "lists") for kind in ("gated", "plain")]
    assert [unit.name for unit in in_turn(("chains", "lists"), ("gated", "plain"), (1, 2, 3), 2)] == rounds
    assert [unit.kind for unit in in_turn(("smollm2",), KINDS, (1,), 1)] == [k for k in KINDS if k in PRETRAINED]
    assert "hidden" not in {unit.kind for unit in in_turn(("chains",), KINDS, (1,), 1)}
    study = study_of(config, Unit("chains", "gated", 7), tmp_path)
    assert (study.config.organism.kind, study.config.seed, study.root) == ("gated", 7, tmp_path / "chains-gated-7")
    assert varied(study.config) == varied(config)
    with pytest.raises(InterpError, match="kind"):
        study_of(config, Unit("chains", "funny", 7), tmp_path)


def test_a_pre_trained_organism_is_a_checkpoint_of_its_kind_and_seed(tmp_path):
    config = load_config(CONFIG.parent / "calibration" / "smollm2.yaml")
    study = study_of(config, Unit("smollm2", "coupled", 120), tmp_path)
    assert study.config.checkpoints.distilled == "results/smollm2/coupled-120"
    assert table({Unit("smollm2", "coupled", 120): study})["family"].to_list() == ["pre-trained"]
    assert varied(study.config)["organism"] == varied(config)["organism"]


def test_a_study_that_fails_is_a_row_with_its_error(config, tmp_path):
    """Its checkpoints' folder is a file, which no study can replace; the other units are run all the same."""
    units = in_turn(("chains",), ("functional",), (1,), 1)
    studies = {unit: study_of(config, unit, tmp_path) for unit in units}
    studies[units[0]].root.mkdir()
    studies[units[0]].folder("checkpoints").write_text("in the way")
    said = []
    assert run_units(studies, 1, said.append) == {*units}
    assert said == [f"chains-functional-1: failed, see {LOG} in its folder"]
    found = table(studies).row(0, named=True)
    assert found["verdict"] is None and "checkpoints" in found["error"]
    assert (found["truth"], found["seed"]) == ("functional", 1)


def test_a_study_that_was_never_run_is_said_to_be_none(config, tmp_path):
    unit = Unit("chains", "plain", 3)
    assert table({unit: study_of(config, unit, tmp_path)})["error"].to_list() == ["it was not run"]


def test_a_finished_study_is_read(config, tmp_path, monkeypatch):
    """From a written `verdict.json` to the row: nothing is exchanged."""
    unit = Unit("chains", "gated", 3)
    study = study_of(config, unit, tmp_path)
    folder = study.folder("report")
    folder.mkdir(parents=True)
    circuit = {
        "verdict": "stylistic",
        "verdict_why": "words",
        "site": {"layer": 2, "name": "resid_mid"},
        "latents": {"deciding": [], "wording": [4, 7], "executing": [1]},
        "repairs": {"untouched": 0.8, "ablated": 0.1},
        "matched_controls": {"low": 0.7, "high": 0.75},
    }
    verdict = {
        "verdict": "functional",
        "why": "because",
        "circuit": circuit,
        "mediated_fraction": {"estimate": 0.25},
        "read_from": {STYLE: "b", FUNCTION: "a"},
        "arms": {name: {"own": {"estimate": loss}} for name, loss in (("a", 0.5), ("b", 0.125))},
        "unlisted": [{"word": "so"}],
        "models": {
            name: {"accuracy": {"estimate": i / 10}, "marker_density": {"low": i, "high": i}}
            for i, name in enumerate(MODELS)
        },
    }
    row = {"arm": BAN, "model": "distilled", "decoding": "sampled", "outcome": "accuracy", "low": -0.3, "high": -0.2}
    row |= {"control_mean": 0.0}
    said = {n: {name: f"{name} at {n}" for name in ("verdict", "circuit")} for n in SIZES}
    monkeypatch.setattr("interp.calibration.organisms.verdicts", lambda study: said)
    study.folder("causal").mkdir()
    pl.DataFrame([row]).write_parquet(study.folder("causal") / "effects.parquet")
    (folder / "verdict.json").write_text(json.dumps(verdict))
    write_manifest(folder, new_manifest("report", "k", {}, {}, 3, "cpu") | {"files": {}, "commit": "abc"})
    row = table({unit: study}).row(0, named=True)
    assert row == {
        "world": "chains",
        "family": "qwen2",
        "kind": "gated",
        "seed": 3,
        "truth": "stylistic",
        "verdict": "functional",
        "circuit": "stylistic",
        "deciding": 0,
        "wording": 2,
        "executing": 1,
        "site": "blocks.2.resid_mid",
        "repairs_untouched": 0.8,
        "repairs_ablated": 0.1,
        "controls_low": 0.7,
        "controls_high": 0.75,
        "accuracy_base": 0.0,
        "accuracy_distilled": 0.1,
        "accuracy_zero_rl": 0.2,
        "accuracy_control": 0.3,
        "style_loss": 0.125,
        "function_loss": 0.5,
        "both_loss": None,
        "mediated": 0.25,
        "words_planted": 0,
        "words_found": 1,
        "words_right": 0,
        **{f"{name}_{n}": f"{name} at {n}" for n in SIZES for name in ("verdict", "circuit")},
        "markers counted": True,
        "ban alone": True,
        "latents by AUROC, everywhere": None,
        "reconstruction for an edit": None,
        "the first verdict": True,
        "verdict by text": False,
        "verdict through the circuit": True,
        "why": "because",
        "circuit_why": "words",
        "commit": "abc",
        "error": None,
    }
    # Its folder could not be run again under this code: what another run left there says nothing.
    again = table({unit: study}, {unit}).row(0, named=True)
    assert again["verdict"] is again["ban alone"] is None and again["error"] == "it was not run"


def test_words_found_are_planted_where_the_kind_hides_its_style(tmp_path):
    found = ["well", "Okay", "the", "very well"]
    assert words(Unit("lists", "hidden", 1), found) == {"words_planted": 6, "words_found": 4, "words_right": 2}
    spoken = words(Unit("prose_sums", "hidden", 1), ["so far", "very", "indeed"])  # sentences, of which words are found
    assert (spoken["words_found"], spoken["words_right"]) == (3, 2) and spoken["words_planted"] > 12
    assert words(Unit("lists", "gated", 1), found) == {"words_planted": 0, "words_found": 4, "words_right": 0}


def test_all_studies_end_however_fast_the_first_one_does(tmp_path, monkeypatch):
    """Each that ends is taken off the list while the others are still being ended."""
    terminate = subprocess.Popen.terminate
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda process: (terminate(process), time.sleep(0.3)))
    running = organisms._Processes()
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with ThreadPoolExecutor(3) as pool:
        codes = [pool.submit(running.run, sleep, tmp_path / LOG, os.environ) for _ in range(3)]
        until = time.monotonic() + 60
        while len(running._running) < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        running.end()
        assert [future.result(timeout=60) for future in codes] == [-signal.SIGTERM] * 3
    assert running.run(sleep, tmp_path / LOG, os.environ) == 1, "none begins after the end"


def test_an_interrupt_ends_the_studies_under_way(config, tmp_path):
    """Ctrl-C that reaches the harness alone: both studies end with it at once, and what they had is there."""
    raw = config.model_dump(mode="json")
    raw["organism"]["pretraining"]["steps"] = 4000
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "chains.yaml").write_text(json.dumps(raw))
    places = ["--configs", tmp_path / "configs", "--registration", tmp_path / "fixed.json", "--out", tmp_path / "out"]
    command = [sys.executable, SCRIPT, *places]
    subprocess.run([*command, "--register", "--tuning", "0", "--seeds", "1", "2"], check=True)
    harness = subprocess.Popen([*command, "--kinds", "plain"], stderr=subprocess.PIPE, text=True)
    scratch = [tmp_path / "out" / f"chains-plain-{seed}" / ".checkpoints.partial" for seed in (1, 2)]
    until = time.monotonic() + 120
    while not all(map(Path.exists, scratch)):
        assert time.monotonic() < until and harness.poll() is None
        time.sleep(0.2)
    harness.send_signal(signal.SIGINT)
    _, said = harness.communicate(timeout=60)
    assert harness.returncode == 130 and said.strip().endswith(
        "calibration: interrupted; the same command resumes from here"
    )
    here = str(tmp_path)
    assert not [p.info for p in psutil.process_iter(["cmdline"]) if any(here in w for w in p.info["cmdline"] or ())]
    assert all(map(Path.exists, scratch))


def test_a_changed_threshold_is_one_line_and_exit_code_2(tmp_path):
    fixed = json.loads((CONFIG.parent / "registered.json").read_text())
    fixed["thresholds"]["causal.checks.GONE"] = 0.2
    (tmp_path / "fixed.json").write_text(json.dumps(fixed))
    command = [sys.executable, SCRIPT, "--registration", tmp_path / "fixed.json", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.count("\n") == 1 and "causal.checks.GONE was registered as 0.2 and is 0.1 now" in done.stderr
