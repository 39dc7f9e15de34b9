"""What was registered is what runs."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from interp.calibration.organisms import varied
from interp.calibration.thresholds import CONSTANTS, register, registered, thresholds
from interp.config import load_config
from interp.errors import InterpError
from interp.organisms.worlds import WORLDS

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"


def test_what_is_committed_is_what_the_code_has():
    configs = {path.stem: varied(load_config(path)) for path in (CONFIGS / "calibration").glob("*.yaml")}
    assert {*configs} == {*WORLDS, "smollm2"}
    found = registered(CONFIGS / "registered.json", configs)
    assert {*found.configs} == {*configs}
    assert found.reporting and not {*found.tuning} & {*found.reporting}


def test_every_registered_constant_is_there():
    assert len(thresholds()) == sum(map(len, CONSTANTS.values()))


@pytest.mark.parametrize("module, name", [("interp.causal.checks", "DAMAGE"), ("interp.features.selection", "GONE")])
def test_a_changed_threshold_is_named(tmp_path, monkeypatch, module, name):
    register(tmp_path / "fixed.json", {"chains": {"task": 1}}, (0,), (1,))
    registered(tmp_path / "fixed.json", {"chains": {"task": 1}})
    was = getattr(import_module(module), name)
    monkeypatch.setattr(f"{module}.{name}", was + 0.01)
    with pytest.raises(InterpError, match=rf"thresholds\.{module[7:]}\.{name} was registered as {was}"):
        registered(tmp_path / "fixed.json", {"chains": {"task": 1}})


def test_a_changed_config_is_named(tmp_path):
    was = {"chains": {"causal": {"problems": 1024}}, "lists": {}}
    register(tmp_path / "fixed.json", was, (0,), (1,))
    registered(tmp_path / "fixed.json", {"lists": {}})  # of the worlds that are run
    with pytest.raises(InterpError, match=r"configs\.chains\.causal\.problems was registered as 1024 and is 512"):
        registered(tmp_path / "fixed.json", {"chains": {"causal": {"problems": 512}}})
    with pytest.raises(InterpError, match=r"configs\.tracking"):
        registered(tmp_path / "fixed.json", {"tracking": {"causal": {"problems": 1}}})


def test_readings_by_the_same_rules_have_the_same_digest_world_by_world(tmp_path):
    found = []
    for problems in (512, 1024):
        configs = {"chains": {"causal": {"problems": problems}}, "lists": {"task": 1}}
        register(tmp_path / "fixed.json", configs, (0,), (1,))
        found.append(registered(tmp_path / "fixed.json", configs))
    first, second = found
    assert first.digest("chains") != second.digest("chains") and first.digest("lists") == second.digest("lists")


def test_a_seed_cannot_be_both_tuned_and_reported(tmp_path):
    with pytest.raises(InterpError, match="seed 2 is among tuning and reporting"):
        register(tmp_path / "fixed.json", {}, (1, 2), (2, 3))
    (tmp_path / "by_hand.json").write_text(
        json.dumps({"tuning": [2], "reporting": [2], "thresholds": thresholds(), "configs": {}})
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
    config = load_config(CONFIGS / "calibration" / "chains.yaml")
    raw = varied(config)
    assert "seed" not in raw and "kind" not in raw["organism"]
    causal = config.model_dump(mode="json")["causal"]
    assert raw["causal"] == {key: value for key, value in causal.items() if key != "workers"}, "to the same bits"
