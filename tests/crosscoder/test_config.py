import pytest
from pydantic import ValidationError

from interp.crosscoder import CrosscoderConfig, TrainConfig

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


def test_configs_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        CrosscoderConfig(**SHAPE).k = 5


@pytest.mark.parametrize("config", [CrosscoderConfig, TrainConfig])
def test_every_field_says_what_it_is(config):
    assert all(field.description for field in config.model_fields.values())
