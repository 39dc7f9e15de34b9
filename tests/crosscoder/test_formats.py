"""What `Crosscoder.save` writes: read back to the bit, and by another reader of format 1 as we mean it."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from interp.crosscoder import Crosscoder, CrosscoderConfig

from .samples import CONFIG, random_crosscoder, random_rows

CONFIGS = {
    "batch_topk": CONFIG,
    "dedicated": CONFIG.model_copy(update={"n_dedicated": 5}),
    "topk": CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=4, activation="topk"),
    "relu": CrosscoderConfig(n_models=3, d_model=8, n_latents=40, activation="relu"),
    "jumprelu": CrosscoderConfig(n_models=3, d_model=8, n_latents=40, activation="jumprelu", n_dedicated=2),
}


def crosscoder_of(kind, scale_by="model"):
    """A crosscoder whose scales are such that dividing 1 by them twice would not bring them back."""
    crosscoder = random_crosscoder(CONFIGS[kind])
    values = torch.linspace(0.3, 2.0, 9999)
    odd = values[1 / (1 / values) != values][::20]
    scale = odd[: crosscoder.scale.numel()].view_as(crosscoder.scale)
    with torch.no_grad():
        crosscoder.scale.copy_(scale if scale_by == "coordinate" else scale[:, :1].expand_as(scale))
        if crosscoder.config.activation != "batch_topk":
            crosscoder.threshold.zero_()  # the others have no use for it
    return crosscoder


@torch.no_grad()
def assert_same_to_the_bit(loaded, crosscoder):
    assert loaded.config == crosscoder.config
    for name, tensor in crosscoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    x = random_rows(64)
    f = crosscoder.encode(x)
    assert 0 < (f > 0).float().mean() < 1
    assert torch.equal(loaded.encode(x), f)
    assert torch.equal(loaded.decode(f), crosscoder.decode(f))


@pytest.mark.parametrize("scale_by", ["model", "coordinate"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_loaded_is_the_same_to_the_bit(tmp_path, kind, scale_by):
    crosscoder = crosscoder_of(kind, scale_by)
    crosscoder.save(tmp_path / "new" / "folder")
    loaded = Crosscoder.load(tmp_path / "new" / "folder")
    assert_same_to_the_bit(loaded, crosscoder)
    assert not any(weight.requires_grad for weight in loaded.parameters())


@pytest.mark.parametrize("kind", ["batch_topk", "dedicated", "relu", "jumprelu"])
def test_a_folded_one_is_loaded_the_same_to_the_bit(tmp_path, kind):
    folded = crosscoder_of(kind, "coordinate").fold()
    folded.save(tmp_path)
    assert_same_to_the_bit(Crosscoder.load(str(tmp_path)), folded)


@torch.no_grad()
def test_a_latent_that_decodes_to_nothing_stays_shut_after_folding_and_loading(tmp_path):
    crosscoder = crosscoder_of("batch_topk")
    crosscoder.decoder[0] = 0
    crosscoder.threshold.zero_()
    crosscoder.fold().save(tmp_path)
    x = random_rows(64)
    assert crosscoder.pre_activations(crosscoder.normalise(x))[:, 0].max() > 0
    assert torch.equal(Crosscoder.load(tmp_path).encode(x), crosscoder.fold().encode(x))
    assert not Crosscoder.load(tmp_path).encode(x)[:, 0].any()


def test_the_new_crosscoder_before_training_can_be_saved(tmp_path):
    Crosscoder(CONFIG).save(tmp_path)
    assert Crosscoder.load(tmp_path).config == CONFIG


def test_names_shapes_and_types_are_format_1(tmp_path):
    crosscoder_of("batch_topk").save(tmp_path)
    tensors = {name: (tuple(t.shape), t.dtype) for name, t in load_file(tmp_path / "model.safetensors").items()}
    f32 = torch.float32
    assert tensors == {
        "encoder.weight": ((3, 8, 40), f32),
        "encoder.bias": ((40,), f32),
        "decoder.weight": ((3, 40, 8), f32),
        "decoder.bias": ((3, 8), f32),
        "code_normalization_id": ((), torch.int64),
        "activation_mean": ((3, 8), f32),
        "activation_std": ((3, 8), f32),
        "activation_global_scale": ((3,), f32),
        "target_rms": ((), f32),
        "k": ((), torch.int32),
        "threshold": ((), f32),
    }
    # The library passes every key to its constructor, so none of ours may stand there in vain.
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"num_layers": 3, "activation_dim": 8, "dict_size": 40, "k": 4}


def test_the_config_says_what_format_1_has_no_word_for(tmp_path):
    crosscoder_of("jumprelu").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "num_layers": 3,
        "activation_dim": 8,
        "dict_size": 40,
        "activation": "jumprelu",
        "n_dedicated": 2,
    }


WAYS = {
    "global scale": lambda t: t["activation_global_scale"][:, None],
    "deviations": lambda t: 1 / (t["activation_std"] + 1e-8),
    "target rms": lambda t: (t["target_rms"] / (t["activation_std"].square().sum(1) + 1e-8).sqrt())[:, None],
}


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_an_outside_reader_gets_the_same_code_whichever_way_it_normalises(tmp_path, way):
    crosscoder = crosscoder_of("batch_topk")
    crosscoder.save(tmp_path)
    t, x = load_file(tmp_path / "model.safetensors"), random_rows(50)
    factor = WAYS[way](t)
    x_hat = (x - t["activation_mean"]) * factor
    f = (torch.einsum("bnd,ndl->bl", x_hat, t["encoder.weight"]) + t["encoder.bias"]).relu()
    f = f * (f * t["decoder.weight"].norm(dim=2).sum(0) > t["threshold"])
    torch.testing.assert_close(f, crosscoder.encode(x), atol=1e-4, rtol=1e-4)
    decoded = torch.einsum("bl,nld->bnd", f, t["decoder.weight"]) + t["decoder.bias"]
    ours = crosscoder.decode(crosscoder.encode(x))
    torch.testing.assert_close(decoded / factor + t["activation_mean"], ours, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_scales_that_the_format_cannot_say_are_not_said_wrongly(tmp_path):
    crosscoder = crosscoder_of("batch_topk", "coordinate")
    crosscoder.save(tmp_path)
    t, x = load_file(tmp_path / "model.safetensors"), random_rows(20)
    assert torch.equal(t["activation_scale"], crosscoder.scale)
    torch.testing.assert_close((x - t["activation_mean"]) * WAYS["deviations"](t), crosscoder.normalise(x))
    for way in ("global scale", "target rms"):
        assert WAYS[way](t).isnan().all()


def test_target_rms_is_the_norm_of_a_normalised_row(tmp_path):
    crosscoder_of("relu").save(tmp_path)
    assert float(load_file(tmp_path / "model.safetensors")["target_rms"]) == pytest.approx(math.sqrt(8))
