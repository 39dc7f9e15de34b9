"""`interp steer`: its help, and what it refuses in one line."""

import os

import pytest

from interp.cli import main
from interp.config import StudyConfig, check_config
from interp.errors import InterpError
from interp.locks import locked
from interp.pipeline import STAGES, stage_config
from interp.steering import ACTIONS, run
from interp.study import Study


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """`main` sets variables for the libraries; they end with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: mine\n")
    return str(path)


def refused(capsys, *words):
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("interp: ")
    return said.err


@pytest.mark.parametrize("words", [["steer"], ["steer", "--help"]])
def test_help_lists_the_actions(capsys, words):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_explains_every_option(capsys, action):
    assert main(["steer", action, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"interp steer {action}" in shown
    assert all(f"--steering.{name}" in shown for name in StudyConfig.model_fields["steering"].default.model_dump())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dosee"], "did you mean 'dose'?"),
        (["make", "--steering.att", "forks"], "did you mean 'steering.at'?"),
        (["make", "--steering.at", "fork"], "steering.at = 'fork'"),
        (["make", "--steering.source", "file"], "give the path of one"),
        (["make", "--steering.file", "x.gguf"], "set source to file"),
        (["make", "--steering.layer", "2"], "steering.layer does nothing"),
        (["make", "--steering.latents", "[2]"], "steering.latents does nothing"),
        (["dose", "--steering.doses", "[0.1, 0.2]"], "doses of both signs"),
        (["dose", "--steering.doses", "[-1, 1, 1]"], "one value twice"),
        (["dose", "--steering.doses", "[-1, NaN]"], "steering.doses"),
        (["dose", "--steering.where", '["forks", "forks"]'], "one value twice"),
        (["dose", "--force"], "--force does nothing here"),
        (["dose"], "is not there; run `interp study` first"),
    ],
)
def test_bad_input_is_one_line(capsys, config, tmp_path, words, said):
    action, *options = words
    assert said in refused(capsys, "steer", action, config, "--out", str(tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()


def test_a_study_without_its_stages_names_the_first(capsys, config, tmp_path):
    assert "run `interp checkpoints` first" in refused(capsys, "steer", "make", config, "--out", str(tmp_path))


def test_two_never_steer_one_study(tmp_path):
    study = Study(StudyConfig(), tmp_path)
    with locked(study.folder("steering")), pytest.raises(InterpError, match="another run is writing"):
        run(study, "make")


def test_the_section_is_in_no_stages_key():
    default = check_config({}, "here")
    other = check_config({"steering": {"doses": [-1, 1], "at": "forks"}}, "here")
    assert default != other
    for stage in STAGES:
        assert stage_config(stage, default) == stage_config(stage, other)
