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
