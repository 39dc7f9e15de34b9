import subprocess
import sys

import pytest
from pydantic import ValidationError

from interp.crosscoder import CrosscoderConfig, DictionaryConfig, TrainConfig

SHAPE = {"n_models": 3, "d_model": 8, "n_latents": 40, "k": 4}


@pytest.mark.parametrize(
    "change",
    [{"k": 41}, {"k": 0}, {"n_models": 0}, {"d_model": 0}, {"n_latents": 0}, {"d_modle": 8}, {"k": 1.5}],
)
def test_impossible_shapes_are_refused(change):
    CrosscoderConfig(**SHAPE)
    with pytest.raises(ValidationError):
        CrosscoderConfig(**SHAPE | change)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"seed": -1},
        {"grad_clip": 0.0},
        {"aux_coefficient": -1.0},
        {"k_aux": 0},
        {"dead_after_rows": 0},
        {"log_every": 0},
        {"warmup_fraction": 0.5, "decay_fraction": 0.6},
        {"warmup": 0.1},
    ],
)
def test_impossible_trainings_are_refused(change):
    with pytest.raises(ValidationError):
        TrainConfig(**change)


@pytest.mark.parametrize(
    ("field", "refused", "allowed"),
    [
        ("steps", 0, 1),
        ("batch_size", 0, 1),
        ("lr", 0.0, 1e-9),
        ("lr", -1e-9, 5.0),
        ("seed", -1, 0),
        ("warmup_fraction", -1e-9, 0.0),
        ("decay_fraction", -1e-9, 0.0),
        ("grad_clip", 0.0, 1e-9),
        ("k_start", 0, 1),
        ("k_anneal_fraction", 0.0, 1e-9),
        ("k_anneal_fraction", 1 + 1e-9, 1.0),
        ("sparsity", -1e-9, 0.0),
        ("sparsity_warmup_fraction", -1e-9, 0.0),
        ("sparsity_warmup_fraction", 1 + 1e-9, 1.0),
        ("bandwidth", 0.0, 1e-9),
        ("aux_coefficient", -1e-9, 0.0),
        ("k_aux", 0, 1),
        ("dead_after_rows", 0, 1),
        ("outlier_ratio", 1.0, 1 + 1e-9),
        ("shuffle_rows", 0, 1),
        ("data_seed", -1, 0),
        ("log_every", 0, 1),
    ],
)
def test_a_setting_is_refused_right_beyond_its_range(field, refused, allowed):
    assert getattr(TrainConfig(**{field: allowed}), field) == allowed
    with pytest.raises(ValidationError, match=field):
        TrainConfig(**{field: refused})


@pytest.mark.parametrize("field", ["warmup_fraction", "decay_fraction"])
def test_a_share_of_the_schedule_is_at_most_one(field):
    other = {"warmup_fraction": "decay_fraction", "decay_fraction": "warmup_fraction"}[field]
    assert getattr(TrainConfig(**{field: 1.0, other: 0.0}), field) == 1.0
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        TrainConfig(**{field: 1.5, other: 0.0})


@pytest.mark.parametrize("field", ["n_latents", "n_models", "d_model", "n_dedicated", "k"])
def test_a_size_is_refused_right_beyond_its_range(field):
    smallest = {"n_latents": 1, "n_models": 1, "d_model": 1, "k": 1} | {"n_dedicated": 0}
    assert getattr(CrosscoderConfig(**smallest), field) == smallest[field]
    with pytest.raises(ValidationError, match=field):
        CrosscoderConfig(**smallest | {field: smallest[field] - 1})


def test_configs_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        CrosscoderConfig(**SHAPE).k = 5


@pytest.mark.parametrize("config", [DictionaryConfig, CrosscoderConfig, TrainConfig])
def test_every_field_says_what_it_is(config):
    assert all(field.description for field in config.model_fields.values())


def test_a_dictionary_becomes_a_crosscoder_between_models():
    shape = DictionaryConfig(n_latents=40, k=4, n_dedicated=12)
    assert shape.between(3, 8) == CrosscoderConfig(**SHAPE, n_dedicated=12)
    with pytest.raises(ValidationError, match="n_dedicated=12 for 4 models is more than n_latents=40"):
        shape.between(4, 8)
    with pytest.raises(ValidationError, match="needs k"):
        DictionaryConfig(n_latents=40)


def test_configs_load_without_torch():
    code = "import sys, interp.crosscoder.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_package_offers_its_names_and_no_other():
    import interp.crosscoder

    assert all(getattr(interp.crosscoder, name) is not None for name in interp.crosscoder.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Crosscodar'"):
        interp.crosscoder.Crosscodar  # noqa: B018


@pytest.mark.parametrize(
    ("config", "values"), [(DictionaryConfig, {"n_latents": 8, "k": 2}), (CrosscoderConfig, SHAPE), (TrainConfig, {})]
)
def test_a_config_is_what_its_values_are_validated_to(config, values):
    assert config.model_validate(values) == config(**values)
