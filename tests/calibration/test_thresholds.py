"""What was registered is what runs."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from interp.calibration.organisms import varied
from interp.calibration.thresholds import CONSTANTS, register, registered, thresholds
from interp.config import load_config
from interp.errors import InterpError

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"


def test_what_is_committed_is_what_the_code_has():
    found = registered(CONFIGS / "registered.json", varied(load_config(CONFIGS / "calibration.yaml")))
    assert found.reporting and not {*found.tuning} & {*found.reporting}


def test_every_registered_constant_is_there():
    assert len(thresholds()) == sum(map(len, CONSTANTS.values()))


@pytest.mark.parametrize("module, name", [("interp.causal.checks", "DAMAGE"), ("interp.features.selection", "GONE")])
def test_a_changed_threshold_is_named(tmp_path, monkeypatch, module, name):
    register(tmp_path / "fixed.json", {"task": 1}, (0,), (1,))
    registered(tmp_path / "fixed.json", {"task": 1})
    was = getattr(import_module(module), name)
    monkeypatch.setattr(f"{module}.{name}", was + 0.01)
    with pytest.raises(InterpError, match=rf"thresholds\.{module[7:]}\.{name} was registered as {was}"):
        registered(tmp_path / "fixed.json", {"task": 1})


def test_a_changed_config_is_named(tmp_path):
    register(tmp_path / "fixed.json", {"causal": {"problems": 1024}}, (0,), (1,))
    with pytest.raises(InterpError, match=r"config\.causal\.problems was registered as 1024 and is 512"):
        registered(tmp_path / "fixed.json", {"causal": {"problems": 512}})


def test_a_seed_cannot_be_both_tuned_and_reported(tmp_path):
    with pytest.raises(InterpError, match="seed 2 is among tuning and reporting"):
        register(tmp_path / "fixed.json", {}, (1, 2), (2, 3))
    (tmp_path / "by_hand.json").write_text(
        json.dumps({"tuning": [2], "reporting": [2], "thresholds": thresholds(), "config": {}})
    )
    with pytest.raises(InterpError, match="seed 2 is among"):
        registered(tmp_path / "by_hand.json", {})


@pytest.mark.parametrize("content", ["", "{}", "[1]", None])
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "fixed.json").write_text(content)
    with pytest.raises(InterpError, match="no registration can be read"):
        registered(tmp_path / "fixed.json", {})


def test_seed_kind_and_workers_are_no_part_of_the_registered_config():
    config = load_config(CONFIGS / "calibration.yaml")
    raw = varied(config)
    assert "seed" not in raw and "kind" not in raw["organism"]
    causal = config.model_dump(mode="json")["causal"]
    assert raw["causal"] == {key: value for key, value in causal.items() if key != "workers"}, "to the same bits"
