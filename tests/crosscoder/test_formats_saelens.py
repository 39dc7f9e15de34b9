"""Flat dictionaries that the real sae_lens opens, and files of its own that we read."""

import json

import pytest
import torch
from sae_lens import SAE, JumpReLUSAEConfig, StandardSAEConfig, TopKSAEConfig
from sae_lens.registry import get_sae_class
from safetensors.torch import save_file

from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.errors import InterpError

from .published import same
from .samples import CONFIG, random_crosscoder, random_rows


def crosscoder_of(activation):
    k = 4 if activation in ("batch_topk", "topk") else None
    return random_crosscoder(CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=k, activation=activation))


def with_equal_norms(crosscoder):
    with torch.no_grad():
        crosscoder.decoder /= crosscoder.decoder_norms()[:, None] / 1.7
    return crosscoder


@torch.no_grad()
def assert_opens_the_same(crosscoder, folder, x):
    """sae_lens' encode and decode of concatenated rows are ours, with the same latents active."""
    sae, flat = SAE.load_from_disk(folder), x.flatten(1)
    f = crosscoder.encode(x)
    theirs = sae.encode(flat)
    assert 0 < (f > 0).float().mean() < 1
    assert torch.equal(theirs > 0, f > 0)
    torch.testing.assert_close(theirs, f, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae.decode(f), crosscoder.decode(f).flatten(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae(flat), crosscoder.decode(f).flatten(1), atol=1e-3, rtol=1e-4)
    return sae


@pytest.mark.parametrize(
    ("activation", "architecture"),
    [("batch_topk", "jumprelu"), ("jumprelu", "jumprelu"), ("relu", "standard"), ("topk", "topk")],
)
def test_sae_lens_opens_what_we_write(tmp_path, activation, architecture):
    crosscoder = crosscoder_of(activation)
    if activation == "topk":
        crosscoder = with_equal_norms(crosscoder)
    crosscoder.save_sae_lens(tmp_path / "flat")
    sae = assert_opens_the_same(crosscoder, tmp_path / "flat", random_rows(64))
    assert sae.cfg.architecture() == architecture
    assert (sae.cfg.d_in, sae.cfg.d_sae) == (24, 40)


def test_a_topk_that_sae_lens_would_choose_otherwise_is_refused(tmp_path):
    with pytest.raises(InterpError, match=r"SAELens keeps each row's k largest activations.*norms differ"):
        crosscoder_of("topk").save_sae_lens(tmp_path / "flat")
    assert not (tmp_path / "flat").exists()


def test_what_we_write_for_sae_lens_we_read_as_one_model(tmp_path):
    crosscoder, x = random_crosscoder(CONFIG), random_rows(64)
    crosscoder.save_sae_lens(tmp_path)
    flat = Crosscoder.load(tmp_path)
    assert (flat.config.n_models, flat.config.d_model) == (1, 24)
    torch.testing.assert_close(flat.encode(x.flatten(1)[:, None]), crosscoder.encode(x), atol=1e-4, rtol=1e-4)


KINDS = {
    "standard": StandardSAEConfig(d_in=10, d_sae=32, apply_b_dec_to_input=False),
    "standard on centred input": StandardSAEConfig(d_in=10, d_sae=32, apply_b_dec_to_input=True),
    "jumprelu": JumpReLUSAEConfig(d_in=10, d_sae=32),
    "topk": TopKSAEConfig(d_in=10, d_sae=32, k=5),
    "topk by score": TopKSAEConfig(d_in=10, d_sae=32, k=5, rescale_acts_by_decoder_norm=True),
}


def their_sae(config):
    """One of sae_lens' own, with every weight other than its start."""
    torch.manual_seed(3)
    sae = get_sae_class(config.architecture())[0](config)
    with torch.no_grad():
        for weight in sae.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
        if config.architecture() == "topk" and not config.rescale_acts_by_decoder_norm:
            sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    return sae


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_sae_lens_writes_is_read_as_it_computes_it(tmp_path, kind):
    sae = their_sae(KINDS[kind])
    sae.save_model(tmp_path)
    x = 1 + torch.randn(80, 10)
    f = sae.encode(x)
    same(Crosscoder.load(tmp_path), x[:, None], f, sae.decode(f)[:, None])


@torch.no_grad()
def test_a_factor_that_sae_lens_folds_in_later_is_asked_for(tmp_path):
    sae = their_sae(StandardSAEConfig(d_in=10, d_sae=32, normalize_activations="expected_average_only_in"))
    sae.save_model(tmp_path)
    with pytest.raises(InterpError, match=r"scales=\(1\.0,\)"):
        Crosscoder.load(tmp_path)
    sae.fold_activation_norm_scaling_factor(0.6)
    x = 1 + torch.randn(80, 10)
    same(Crosscoder.load(tmp_path, scales=(0.6,)), x[:, None], sae.encode(x), sae(x)[:, None])


@torch.no_grad()
def test_a_config_from_before_version_6_is_read(tmp_path):
    sae = their_sae(TopKSAEConfig(d_in=10, d_sae=32, k=5))
    sae.save_model(tmp_path)
    old = {"d_in": 10, "d_sae": 32, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}
    (tmp_path / "cfg.json").write_text(json.dumps(old | {"dtype": "float32", "normalize_activations": "none"}))
    x = 1 + torch.randn(80, 10)
    same(
        Crosscoder.load(tmp_path),
        x[:, None],
        SAE.load_from_disk(tmp_path).encode(x),
        SAE.load_from_disk(tmp_path)(x)[:, None],
    )


def test_other_safetensors_beside_the_weights_do_no_harm(tmp_path):
    their_sae(KINDS["jumprelu"]).save_model(tmp_path)
    save_file({"sparsity": torch.zeros(32)}, tmp_path / "sparsity.safetensors")
    assert Crosscoder.load(tmp_path).config.n_latents == 32


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"architecture": "gated"}, "architecture gated"),
        ({"architecture": "transcoder"}, "architecture transcoder"),
        ({"architecture": "batchtopk"}, "saved as jumprelu by save_inference_model"),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations=layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, "not one factor for all rows"),
        ({"normalize_activations": "covariance_whitening"}, "statistics are not in the file"),
    ],
)
def test_what_is_not_linear_or_not_there_is_refused(tmp_path, said, why):
    their_sae(KINDS["standard"]).save_model(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | said))
    with pytest.raises(InterpError, match=why) as caught:
        Crosscoder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_topk_that_ranks_otherwise_than_we_do_is_refused(tmp_path):
    for name, factor in (("rounded", 1.0001), ("other", 1.01)):
        sae = their_sae(KINDS["topk"])
        with torch.no_grad():
            sae.W_dec[0] *= factor
        sae.save_model(tmp_path / name)
    assert Crosscoder.load(tmp_path / "rounded").config.activation == "topk"
    with pytest.raises(InterpError, match="SAELens keeps each row's k largest"):
        Crosscoder.load(tmp_path / "other")
