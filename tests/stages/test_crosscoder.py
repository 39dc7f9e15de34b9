"""What the stage adds to training: metrics that leave the machine only when asked."""

import sys
from types import SimpleNamespace

import pytest

from interp.config import check_config
from interp.errors import InterpError
from interp.stages.crosscoder import _tracker
from interp.study import Study


def study(tmp_path, project):
    return Study(check_config({"crosscoder": {"wandb": project}}, "here"), tmp_path)


def test_nothing_is_sent_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert _tracker(None, study(tmp_path, None)) is None


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InterpError, match=r"crosscoder\.wandb = mine: wandb is not installed"):
        _tracker("mine", study(tmp_path, "mine"))


def test_a_run_carries_the_whole_config(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **given: asked.update(given) or "run"))
    assert _tracker("mine", study(tmp_path, "mine")) == "run"
    assert asked["project"] == "mine" and asked["config"]["crosscoder"]["wandb"] == "mine"
