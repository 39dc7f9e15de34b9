import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from test_config import fields

from interp.cli import SPINS, main, open_study, parse, prepare
from interp.config import StudyConfig, check_config
from interp.errors import InterpError, InterpWarning
from interp.pipeline import STAGES

HEAVY = ("torch", "transformers", "transformer_lens", "polars", "numpy", "scipy", "matplotlib", "trl", "datasets")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """`main` sets variables for the libraries; they end with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: mine\ncrosscoder: {shape: {k: 5}}\n")
    return path


def refused(capsys, *words):
    """The one line that the command says when it refuses."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and said.err.endswith("\n")
    assert said.err.startswith("interp: ")
    return said.err


@pytest.mark.parametrize(("word", "suggested"), [("sutdy", "study"), ("trace", "traces"), ("repotr", "report")])
def test_a_misspelt_command(capsys, word, suggested):
    line = refused(capsys, word, "x.yaml")
    assert f"'{word}'" in line and f"did you mean {suggested!r}?" in line


def test_a_misspelt_key_is_refused_alike_in_the_file_and_on_the_command_line(capsys, tmp_path, config):
    line = refused(capsys, "study", str(config), "--crosscoder.shape.n-latent", "3")
    assert "'crosscoder.shape.n_latent'" in line and "did you mean 'crosscoder.shape.n_latents'?" in line
    line = refused(capsys, "study", str(config), "--crosscodr.shape.k=3")
    assert "'crosscodr.shape.k'" in line and "did you mean 'crosscoder.shape.k'?" in line
    config.write_text("crosscodr: {shape: {k: 3}}")
    line = refused(capsys, "study", str(config))
    assert "'crosscodr'" in line and "did you mean 'crosscoder'?" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--crosscoder.shape.k", "many"], "crosscoder.shape.k = 'many'"),
        (["--crosscoder.shape.k", "4", "--crosscoder.shape.n_latents", "3"], "crosscoder.shape: k=4 is more than"),
        (["--causal.controls=3"], "causal.controls = '3'"),
        (["--device", "tpu"], "device = 'tpu'"),
        (["--crosscoder.shape.k.deep", "3"], "crosscoder.shape.k"),
        (["--crosscoder", "3"], "crosscoder = 3"),
        (["--seed"], "--seed: no value"),
        (["other.yaml"], "'other.yaml' is one too many"),
        (["--causal.doses", "[1, 2"], "causal.doses"),
        (["--traces.prompt", "Solve it."], "{question}"),
    ],
)
def test_wrong_options_are_named(capsys, config, words, named):
    assert named in refused(capsys, "study", str(config), *words)


def test_a_missing_config_and_one_that_is_not_yaml(capsys, tmp_path):
    missing = tmp_path / "none.yaml"
    assert str(missing) in refused(capsys, "study", str(missing))
    assert "one CONFIG is needed" in refused(capsys, "study")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2\nb: }")
    assert "not YAML" in refused(capsys, "study", str(broken))


def test_an_output_that_cannot_be_written(capsys, monkeypatch, config, tmp_path):
    """`--out` names a file, or a folder under one."""
    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=lambda study, out: 0))
    place = tmp_path / "file"
    place.write_text("")
    assert str(place) in refused(capsys, "checkpoints", str(config), "--out", str(place))


def test_settings_reach_their_keys_in_their_types(config):
    words = (
        "--crosscoder.shape.k 16 --crosscoder.train.lr=1e-2 --causal.doses [-1,1.5] --organism.zero-rl.steps 3 --seed 4"
    )
    study, force = parse([*words.split(), str(config), "--report.title", "A title", "--checkpoints.base", "null"])
    assert not force
    assert study.config.crosscoder.shape.k == 16
    assert study.config.crosscoder.train.lr == 0.01
    assert study.config.causal.doses == (-1.0, 1.5)
    assert study.config.organism.zero_rl.steps == 3
    assert study.config.seed == 4
    assert study.config.report.title == "A title"
    assert study.config.checkpoints.base is None
    assert study.config.name == "mine"


def test_the_files_other_keys_are_kept_beside_those_of_the_command_line(tmp_path):
    """Also in the section, and in the section of a section, that the command line names."""
    path = tmp_path / "study.yaml"
    path.write_text("organism: {kind: gated, zero_rl: {steps: 9}}\ncausal: {bound: 0.1}\n")
    study, _ = parse([str(path), "--organism.zero_rl.lr", "0.5", "--organism.d_model", "48"])
    assert study.config.organism.kind == "gated"
    assert (study.config.organism.zero_rl.steps, study.config.organism.zero_rl.lr) == (9, 0.5)
    assert (study.config.organism.d_model, study.config.causal.bound) == (48, 0.1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("traces.prompt", "{question}"),
        ("traces.prompt", "Q: {question} A:"),
        ("report.title", "Style: does it matter?"),
        ("report.title", "[draft] 3"),
        ("name", "2024"),
    ],
)
def test_a_text_is_taken_as_it_stands(config, key, value):
    """A key that wants a text gets the words of the command line, also where YAML would read something else."""
    study, _ = parse([str(config), f"--{key}", value])
    at = study.config
    for name in key.split("."):
        at = getattr(at, name)
    assert at == value


def test_where_the_output_goes(config, tmp_path):
    assert parse([str(config)])[0].root == Path("results/mine")
    assert parse([str(config), "--name", "other"])[0].root == Path("results/other")
    study, force = parse(["--out", str(tmp_path), str(config), "--force"])
    assert study.root == tmp_path and force


def test_what_differs_is_not_replaced_without_force(capsys, monkeypatch, config, tmp_path):
    def run(study, out):
        (out / "seed").write_text(str(study.config.seed))
        return 1

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    words = ["checkpoints", str(config), "--out", str(tmp_path / "out")]
    written = tmp_path / "out" / "checkpoints" / "seed"
    assert main(words) == 0
    assert "checkpoints: " in capsys.readouterr().out
    assert main(words) == 0
    assert "done already" in capsys.readouterr().out
    assert "seed = 0, now 1" in refused(capsys, *words, "--seed", "1")
    assert written.read_text() == "0"
    assert main([*words, "--seed", "1", "--force"]) == 0
    assert written.read_text() == "1"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (InterpError("mend it"), 2)])
def test_how_a_stage_ends(capsys, monkeypatch, config, tmp_path, error, code):
    def run(study, out):
        raise error

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    words = ["checkpoints", str(config), "--out", str(tmp_path / "out")]
    assert main(words) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*words, "--debug"]) == code
    shown = capsys.readouterr().err
    assert ("Traceback" in shown) == (code == 2)


def test_a_bug_is_not_dressed_as_a_users_error(monkeypatch, config, tmp_path):
    def run(study, out):
        raise ZeroDivisionError

    monkeypatch.setattr("interp.pipeline.import_module", lambda _: SimpleNamespace(run=run))
    with pytest.raises(ZeroDivisionError):
        main(["checkpoints", str(config), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(capsys, words):
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for stage in STAGES:
        assert stage.name in said.out and stage.summary in said.out
    assert "interp study" in said.out or "study  " in said.out


def test_help_of_a_command_explains_every_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["traces", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in ("--out", "--force", "--debug"):
        assert option in said
    for key, field in fields(StudyConfig):
        if not hasattr(field.annotation, "model_fields"):
            assert f"--{key.replace('_', '-')}" in said or f"--{key}" in said, key
            assert " ".join(field.description.split()) in said, key


@pytest.mark.parametrize(("kind", "offline"), [("chains", "1"), ("gsm8k", None)])
def test_the_network_is_touched_only_where_something_lies_on_the_hub(tmp_path, monkeypatch, kind, offline):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    own = dict.fromkeys(("base", "distilled", "zero_rl"), str(tmp_path))
    prepare(check_config({"checkpoints": own, "task": {"kind": kind}}, "here"))
    assert os.environ.get("HF_HUB_OFFLINE") == offline


@pytest.mark.parametrize(
    "words", [["--help"], ["sutdy"], ["study", "none.yaml"], ["study", "CONFIG", "--seed", "x"], ["traces", "CONFIG"]]
)
def test_help_and_refusals_load_nothing_heavy(config, tmp_path, words):
    words = [str(config) if word == "CONFIG" else word for word in words]
    code = (
        "import sys, json; from interp.cli import main; "
        f"main({[*words]!r}); print(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not set(HEAVY) & set(loaded)


def test_a_study_is_opened_up_to_a_stage(monkeypatch, config, tmp_path):
    ran = []
    monkeypatch.setattr("interp.cli.run_stage", lambda study, name, force: ran.append((study.root, name, force)))
    study = open_study(config, "--out", str(tmp_path / "out"), "--seed", "5", until="activations")
    assert study.root == tmp_path / "out" and study.config.seed == 5
    assert ran == [(study.root, name, False) for name in ("checkpoints", "traces", "sites", "activations")]
    ran.clear()
    with pytest.raises(InterpError, match="no stage 'feature'; did you mean 'features'"):
        open_study(config, until="feature")
    assert ran == []


def test_the_installed_command_is_this_one():
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="console_scripts", name="interp")
    assert entry.load() is main


def test_the_example_of_the_help_exists():
    root = Path(__file__).parents[1]
    assert yaml.safe_load((root / "experiments" / "configs" / "organism.yaml").read_text())


def prepared(**given):
    """(whether torch was loaded, the OpenMP policy) after `prepare` in a process of its own."""
    code = (
        "import os, sys; from interp.cli import prepare; from interp.config import check_config;"
        "prepare(check_config({}, 'here'));"
        "print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept | given)
    return done.stdout.split()


def test_waiting_threads_spin_a_little_whatever_the_machine_does():
    """The variable is read when torch is imported; afterwards it would do nothing."""
    assert prepared() == ["False", "None", SPINS]


def test_a_policy_of_the_users_own_is_kept():
    assert prepared(OMP_WAIT_POLICY="ACTIVE") == ["False", "ACTIVE", "None"]
    assert prepared(GOMP_SPINCOUNT="7") == ["False", "None", "7"]


def test_own_warnings_are_shown_and_the_libraries_are_not(capsys):
    with warnings.catch_warnings():
        prepare(check_config({}, "here"))
        warnings.warn("of a library", stacklevel=1)
        warnings.warn("L0 is\nnot k", InterpWarning, stacklevel=1)
    assert capsys.readouterr().err == "interp: warning: L0 is not k\n"


def test_a_gate_that_misses_k_is_reported_by_the_command_too(capsys):
    """It was muted with the libraries' warnings."""
    import torch
    from small import small_crosscoder

    from interp.crosscoder.metrics import calibrate

    crosscoder = small_crosscoder()
    crosscoder.b_enc.fill_(-100.0)
    with warnings.catch_warnings():
        prepare(check_config({}, "here"))
        calibrate(crosscoder, lambda: [torch.zeros(8, 3, 16)])
    assert capsys.readouterr().err == "interp: warning: L0 on held-out rows is 0.00, not k=4 within 2 %\n"


def test_a_reader_that_has_gone_is_no_error():
    command = [sys.executable, "-c", "import sys; from interp.cli import main; sys.exit(main(['study', '--help']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        run.stdout.close()
        assert (run.stderr.read(), run.wait(timeout=60)) == ("", 141)
