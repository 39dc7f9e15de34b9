import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.errors import InterpError

from . import reference
from .samples import CONFIG, random_crosscoder, random_rows

LATENTS = CONFIG.n_latents


def reference_code(crosscoder, x):
    x_hat = reference.normalise(x, crosscoder.mean, crosscoder.scale)
    f = reference.pre_activations(x_hat, crosscoder.W_enc, crosscoder.b_enc).relu()
    return reference.threshold_gate(f, crosscoder.W_dec, crosscoder.threshold)


@given(seed=st.integers(0, 1000), n_models=st.integers(1, 4), d_model=st.integers(1, 9), n_latents=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_code_and_reconstruction_are_the_protocols(seed, n_models, d_model, n_latents):
    config = CrosscoderConfig(n_models=n_models, d_model=d_model, n_latents=n_latents, k=1)
    crosscoder, x = random_crosscoder(config, seed), random_rows(20, config, seed)
    f = crosscoder.encode(x)
    wanted = reference_code(crosscoder, x)
    torch.testing.assert_close(f.double(), wanted, atol=1e-5, rtol=1e-5)
    x_hat = reference.reconstruct(wanted, crosscoder.W_dec, crosscoder.b_dec)
    in_units = torch.stack([x_hat[:, m] / crosscoder.scale[m] + crosscoder.mean[m] for m in range(n_models)], dim=1)
    torch.testing.assert_close(crosscoder.decode(f).double(), in_units, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_the_gate_opens_on_the_score_not_on_the_activation():
    crosscoder, x = random_crosscoder(), random_rows(200)
    crosscoder.threshold.fill_(0.0)
    ungated = crosscoder.encode(x)
    score = ungated * crosscoder.W_dec.norm(dim=2).sum(1)
    crosscoder.threshold.copy_(score[score > 0].median())
    gated = crosscoder.encode(x)
    assert torch.equal(gated, ungated * (score > crosscoder.threshold))
    by_activation = ungated * (ungated > ungated[ungated > 0].median())
    assert not torch.equal(gated > 0, by_activation > 0)


@given(chosen=st.lists(st.integers(0, LATENTS - 1), min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_chosen_latents_are_the_columns_of_the_full_code(chosen):
    crosscoder, x = random_crosscoder(), random_rows(30)
    latents = torch.tensor(chosen)
    torch.testing.assert_close(crosscoder.encode(x, latents), crosscoder.encode(x)[:, latents], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_unit_of_f_adds_its_decoder_in_input_units():
    crosscoder = random_crosscoder()
    f = crosscoder.encode(random_rows(5))
    more = f.clone()
    more[:, 7] += 1
    added = crosscoder.decode(more) - crosscoder.decode(f)
    torch.testing.assert_close(added, crosscoder.decoder_in_input_units()[7].expand_as(added), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_rows_of_low_precision_are_computed_in_fp32():
    crosscoder, x = random_crosscoder(), random_rows(30).bfloat16()
    assert torch.equal(crosscoder.encode(x), crosscoder.encode(x.float()))


@pytest.mark.parametrize("shape", [(5, 1, 8), (5, 3, 1), (5, 8, 3), (5, 2, 8)])
def test_rows_that_would_broadcast_or_do_not_fit_are_refused(shape):
    with pytest.raises(InterpError, match=r"is not \[batch, 3, 8\]"):
        random_crosscoder().encode(torch.zeros(shape))


def test_a_new_crosscoder_is_shared_and_transposed():
    crosscoder = Crosscoder(CONFIG)
    for m in range(CONFIG.n_models):
        assert torch.equal(crosscoder.W_dec[:, m], crosscoder.W_dec[:, 0])
        assert torch.equal(crosscoder.W_enc[m], crosscoder.W_dec[:, m].T)
    torch.testing.assert_close(crosscoder.W_dec.flatten(1).norm(dim=1), torch.ones(LATENTS))
    assert not torch.equal(crosscoder.W_dec, Crosscoder(CONFIG, seed=1).W_dec)


@pytest.mark.parametrize("kind", ["batch_topk", "jumprelu", "relu"])
@torch.no_grad()
def test_folding_leaves_code_and_reconstruction_alone(kind):
    shape = CONFIG.model_dump() | {"activation": kind, "k": 4 if kind == "batch_topk" else None}
    crosscoder, x = random_crosscoder(CrosscoderConfig(**shape)), random_rows(400)
    folded = crosscoder.fold()
    assert not folded.mean.any() and folded.scale.eq(1).all()
    f, other = crosscoder.encode(x), folded.encode(x)
    assert 0.001 < (f > 0).double().mean() < 0.9
    assert ((f > 0) == (other > 0)).double().mean() > 0.9999  # one on the threshold may round to either side
    agree = (f > 0) == (other > 0)
    torch.testing.assert_close(other[agree], f[agree], atol=1e-4, rtol=1e-4)
    rows = agree.all(1)
    torch.testing.assert_close(folded.decode(other)[rows], crosscoder.decode(f)[rows], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_latent_without_a_decoder_stays_shut_when_folded():
    crosscoder = random_crosscoder()
    crosscoder.W_dec[5] = 0.0
    for threshold in (0.0, 0.9):
        crosscoder.threshold.fill_(threshold)
        assert not crosscoder.encode(random_rows(200))[:, 5].any()
        assert not crosscoder.fold().encode(random_rows(200))[:, 5].any()


def test_a_topk_crosscoder_is_not_folded():
    crosscoder = random_crosscoder(CrosscoderConfig(**CONFIG.model_dump() | {"activation": "topk"}))
    with pytest.raises(InterpError, match="topk"):
        crosscoder.fold()


@torch.no_grad()
def test_topk_chooses_by_score_in_every_row():
    crosscoder = random_crosscoder(CrosscoderConfig(**CONFIG.model_dump() | {"activation": "topk"}))
    x = random_rows(50)
    x_hat = reference.normalise(x, crosscoder.mean, crosscoder.scale)
    f = reference.pre_activations(x_hat, crosscoder.W_enc, crosscoder.b_enc).relu()
    score = reference.scores(f, crosscoder.W_dec)
    wanted = f * torch.stack([reference.top_mask(row, 4) for row in score])
    torch.testing.assert_close(crosscoder.encode(x).double(), wanted, atol=1e-5, rtol=1e-5)
    chosen = torch.tensor([3, 30])
    assert torch.equal(crosscoder.encode(x, chosen), crosscoder.encode(x)[:, chosen])


@torch.no_grad()
def test_jumprelu_opens_above_each_latents_threshold():
    crosscoder = random_crosscoder(CrosscoderConfig(n_models=3, d_model=8, n_latents=40, activation="jumprelu"))
    f = crosscoder.encode(random_rows(100))
    thresholds = crosscoder.log_threshold.exp()
    assert (f[f > 0] > thresholds.expand_as(f)[f > 0]).all()
    assert torch.equal(crosscoder.encode(random_rows(100), torch.tensor([7]))[:, 0] > 0, f[:, 7] > 0)


def test_the_public_weights_are_views():
    crosscoder = random_crosscoder()
    assert crosscoder.W_enc.shape == (3, 8, 40) and crosscoder.W_dec.shape == (40, 3, 8)
    with torch.no_grad():
        crosscoder.W_enc[1, 2, 3] = 77.0
        crosscoder.W_dec[3, 1, 2] = 78.0
    assert crosscoder.encoder[3, 10] == 77.0 and crosscoder.decoder[3, 10] == 78.0


@torch.no_grad()
def test_a_folded_bias_is_summed_in_fp64():
    """Means far from 0, as residuals have them: in fp32 the sum would lose what the bias is made of."""
    crosscoder = random_crosscoder(CrosscoderConfig(n_models=2, d_model=400, n_latents=30, activation="relu"))
    crosscoder.mean.mul_(3e4)
    folded = crosscoder.fold()
    exact = crosscoder.b_enc.double() - torch.einsum("md,mdl->l", crosscoder.mean.double(), folded.W_enc.double())
    torch.testing.assert_close(folded.b_enc, exact.float(), atol=0, rtol=0)
