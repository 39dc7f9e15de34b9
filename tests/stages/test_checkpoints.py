"""The stage on the user's own checkpoints, and what it leaves in its folder."""

import gc
import json
import shutil
import weakref

import pytest
import torch

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.names import MODELS
from interp.stages import checkpoints
from interp.study import Study
from tests.small import small_model


@pytest.fixture
def paths(tmp_path, tokenizer):
    found = {}
    for seed, name in enumerate(MODELS):
        small_model(seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        found[name] = str(tmp_path / name)
    return found


def run(paths, tmp_path, **config):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    whole = StudyConfig.model_validate({"checkpoints": paths, "device": "cpu"} | config)
    checkpoints.run(Study(whole, tmp_path), out)
    return json.loads((out / "models.json").read_text())


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"activations": {"layer": 3}}, "activations.layer"),
        ({"activations": {"also": [0, 3]}}, "activations.also"),
        ({"causal": {"patch_layers": [3]}}, "causal.patch_layers"),
    ],
)
def test_a_block_that_the_models_lack_is_refused_before_any_work(paths, tmp_path, config, key):
    with pytest.raises(InterpError, match=f"{key} = 3: the models have blocks 0 to 2; choose one of them"):
        run(paths, tmp_path, **config)


def flat(seed):
    return torch.cat([w.flatten().double() for w in small_model(seed).parameters()])


def test_every_model_is_described_and_at_most_two_are_loaded(paths, tmp_path, monkeypatch):
    loaded, load = [], checkpoints.load_model

    def counted(*args):
        gc.collect()
        assert sum(reference() is not None for reference in loaded) <= 1
        model = load(*args)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(checkpoints, "load_model", counted)
    found = run(paths, tmp_path)
    assert list(found) == list(MODELS) and len(loaded) == 4
    assert found["base"]["distance_from_base"] is None
    for seed, name in enumerate(MODELS):
        assert found[name]["path"] == paths[name]
        assert found[name]["parameters"] == flat(seed).numel()
        if seed:
            expected = float((flat(seed) - flat(0)).norm() / flat(0).norm())
            assert found[name]["distance_from_base"] == pytest.approx(expected)


@pytest.mark.parametrize("name", MODELS[1:])
def test_a_model_that_equals_the_base_is_refused(name, paths, tmp_path):
    shutil.copy(tmp_path / "base" / "model.safetensors", tmp_path / name / "model.safetensors")
    with pytest.raises(InterpError, match=rf"checkpoints\.{name} = .*: its weights equal the base's in every value"):
        run(paths, tmp_path)


def test_training_that_changed_nothing_is_no_error(paths, tmp_path):
    """Reinforcement whose rewards never vary leaves the base's weights, and reports it while it trains."""
    shutil.copy(tmp_path / "base" / "model.safetensors", tmp_path / "zero_rl" / "model.safetensors")
    log = {"metric": "reward", "points": [[1, 0.0]], "left_out": 0}
    (tmp_path / "zero_rl" / "training.json").write_text(json.dumps(log))
    assert run(paths, tmp_path)["zero_rl"]["distance_from_base"] == 0


def test_training_states_of_finished_models_are_not_published(tmp_path):
    """A run that is killed between publishing a model and removing its training state leaves the state."""
    for name in MODELS:
        (tmp_path / name).mkdir()
        (tmp_path / f".{name}.trainer" / "checkpoint-3").mkdir(parents=True)
    checkpoints._make_organism(StudyConfig(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(MODELS)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_organisms_are_trained_on_the_configs_device(device, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(checkpoints, "run_jobs", lambda some, workers: jobs.extend(some))
    config = StudyConfig.model_validate(
        {"device": device, "organism": {"pretraining": {"steps": 1}, "zero_rl": {"steps": 1}}}
    )
    checkpoints._make_organism(config, tmp_path)
    assert len(jobs) == 4
    assert {job.work.device for job in jobs} == {device}


def test_the_base_takes_all_threads_for_micro_batches_and_none_for_operations(tmp_path, monkeypatch):
    """So that its weights do not depend on them; its descendants have one each."""
    jobs = []
    monkeypatch.setattr(checkpoints, "run_jobs", lambda some, workers: jobs.extend(some))
    tiny = {"pretraining": {"steps": 1}, "zero_rl": {"steps": 1}}
    checkpoints._make_organism(StudyConfig.model_validate({"threads": 3, "organism": tiny}), tmp_path)
    assert {job.work.threads for job in jobs} == {1}
    assert jobs[0].name == "base" and jobs[0].work.arm.threads == 3


def linear(rows):
    weight = torch.tensor(rows)
    model = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    model.load_state_dict({"weight": weight})
    return model


def test_the_distance_is_relative_to_the_base():
    """From (3, 4) of norm 5 to (3, 16): 12 / 5; back: 12 / the norm of (3, 16)."""
    base, other = linear([[3.0, 4.0]]), linear([[3.0, 16.0]])
    assert checkpoints._distance(base, other) == pytest.approx(12 / 5)
    assert checkpoints._distance(other, base) == pytest.approx(12 / 265**0.5)
    assert checkpoints._distance(base, base) == 0.0


def test_weights_of_another_shape_do_not_count():
    """Such as the rows that a resized vocabulary adds."""
    base = torch.nn.ModuleDict({"same": linear([[3.0, 4.0]]), "embedding": linear([[1.0], [1.0]])})
    other = torch.nn.ModuleDict({"same": linear([[3.0, 5.0]]), "embedding": linear([[9.0], [9.0], [9.0]])})
    assert checkpoints._distance(base, other) == pytest.approx(1 / 5)
