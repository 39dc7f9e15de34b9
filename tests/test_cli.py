import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from test_config import fields

from interp.cli import main, others_are_busy, parse, prepare
from interp.config import StudyConfig, check_config
from interp.errors import InterpError
from interp.pipeline import STAGES

INTERP = [sys.executable, "-m", "interp.cli"]
HEAVY = ("torch", "transformers", "transformer_lens", "polars", "numpy", "scipy", "matplotlib", "trl", "datasets")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """`main` sets variables for the libraries; they end with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: mine\ncrosscoder: {k: 5}\n")
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
    line = refused(capsys, "study", str(config), "--crosscoder.n-latent", "3")
    assert "'n_latent'" in line and "did you mean 'n_latents'?" in line
    line = refused(capsys, "study", str(config), "--crosscodr.k=3")
    assert "'crosscodr'" in line and "did you mean 'crosscoder'?" in line
    config.write_text("crosscodr: {k: 3}")
    line = refused(capsys, "study", str(config))
    assert "'crosscodr'" in line and "did you mean 'crosscoder'?" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--crosscoder.k", "many"], "crosscoder.k = 'many'"),
        (["--crosscoder.k", "4", "--crosscoder.n_latents", "3"], "crosscoder.k = 4"),
        (["--causal.controls=3"], "causal.controls = 3"),
        (["--device", "tpu"], "device = 'tpu'"),
        (["--crosscoder.k.deep", "3"], "crosscoder.k"),
        (["--crosscoder", "3"], "crosscoder = 3"),
        (["--seed"], "--seed: no value"),
        (["other.yaml"], "got 2"),
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
    words = "--crosscoder.k 16 --crosscoder.lr=1e-2 --causal.doses [-1,1.5] --organism.zero-rl.steps 3 --seed 4"
    study, force = parse([*words.split(), str(config), "--report.title", "A title", "--checkpoints.base", "null"])
    assert not force
    assert study.config.crosscoder.k == 16
    assert study.config.crosscoder.lr == 0.01
    assert study.config.causal.doses == (-1.0, 1.5)
    assert study.config.organism.zero_rl.steps == 3
    assert study.config.seed == 4
    assert study.config.report.title == "A title"
    assert study.config.checkpoints.base is None
    assert study.config.name == "mine"


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


def seconds(words):
    start = time.perf_counter()
    done = subprocess.run([*INTERP, *words], capture_output=True, text=True, timeout=60, check=False)
    return time.perf_counter() - start, done


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["sutdy"], 2)])
def test_help_and_complaints_answer_at_once(words, code):
    runs = [seconds(words) for _ in range(3)]
    assert all(done.returncode == code for _, done in runs)
    if code:
        assert runs[0][1].stderr == "interp: no command 'sutdy'; did you mean 'study'?\n"
    assert min(taken for taken, _ in runs) < 1.0


@pytest.mark.parametrize(
    "words", [["--help"], ["sutdy"], ["study", "none.yaml"], ["study", "CONFIG", "--seed", "x"], ["traces", "CONFIG"]]
)
def test_help_and_complaints_load_nothing_heavy(config, tmp_path, words):
    words = [str(config) if word == "CONFIG" else word for word in words]
    code = (
        "import sys, json; from interp.cli import main; "
        f"main({[*words]!r}); print(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not set(HEAVY) & set(loaded)


def test_the_installed_command_is_this_one():
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="console_scripts", name="interp")
    assert entry.load() is main


def test_the_example_of_the_help_exists():
    root = Path(__file__).parents[1]
    assert yaml.safe_load((root / "experiments" / "configs" / "organism.yaml").read_text())


@pytest.mark.parametrize("busy", [True, False])
def test_beside_busy_processes_threads_are_told_to_sleep_before_torch_is_read(busy):
    """The variable is read when torch is imported; afterwards it would do nothing."""
    code = (
        "import os, sys, interp.cli as cli; from interp.config import check_config;"
        f"cli.others_are_busy = lambda: {busy}; cli.prepare(check_config({{}}, 'here'));"
        "print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    )
    kept = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept)
    assert done.stdout.split() == ["False", "PASSIVE" if busy else "None"]


def test_busy_is_what_the_processors_say(monkeypatch):
    def stat(*lines):
        readings = iter(lines)
        monkeypatch.setattr("interp.cli.Path", lambda _: SimpleNamespace(read_text=lambda: next(readings)))

    stat("cpu 100 0 0 900 0 0 0 0\n", "cpu 105 0 0 935 0 0 0 0\n")
    assert not others_are_busy(0.0)
    stat("cpu 100 0 0 900 0 0 0 0\n", "cpu 120 0 0 920 0 0 0 0\n")
    assert others_are_busy(0.0)
    stat("nothing of the kind\n", "")
    assert not others_are_busy(0.0)
