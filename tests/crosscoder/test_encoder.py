"""Bounds first, values where they matter: the same choice and the same values as without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import CrosscoderConfig, TrainConfig, encoder, gates, train
from interp.crosscoder.encoder import Encoder, Screened

from .samples import planted_rows, random_crosscoder, random_rows

CONFIG = CrosscoderConfig(n_models=2, d_model=24, n_latents=300, k=9)


@pytest.fixture
def _screened(monkeypatch):
    monkeypatch.setattr(encoder, "is_screened", lambda *_: True)
    monkeypatch.setattr(gates, "SAMPLE", 2000)


def case(seed, spread=0.0):
    """A crosscoder and rows whose sizes differ by e^spread and more."""
    crosscoder, x = random_crosscoder(CONFIG, seed), random_rows(80, CONFIG, seed).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        crosscoder.encoder.mul_((spread * torch.randn(300, 1, generator=generator)).exp())
        crosscoder.b_enc.mul_((spread * torch.randn(300, generator=generator)).exp())
    return crosscoder, x * (spread * torch.randn(80, 1, generator=generator)).exp()


@torch.no_grad()
def exact(crosscoder, x):
    return x.double() @ crosscoder.encoder.double().T + crosscoder.b_enc.double()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.0, 1.0, 4.0]))
def test_no_pre_activation_is_above_its_bound(seed, spread):
    crosscoder, x = case(seed, spread)
    with torch.no_grad():
        pre, truth = Encoder(torch.float32)._screened(crosscoder, x), exact(crosscoder, x)
    rounding = pre.upper.double().abs() * 2**-8
    assert (truth <= pre.upper.double() + rounding).all()
    slack = pre.of_row.double() @ pre.of_latent.double().T - crosscoder.b_enc.double()
    assert (pre.upper.double() - truth <= 2 * slack + rounding + 1e-3 * slack.abs()).all()  # and it is a close one


@pytest.mark.usefixtures("_screened")
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_the_exact_one(seed, spread):
    crosscoder, x = case(seed, spread)
    norms, every = crosscoder.decoder_norms().detach(), torch.arange(80 * 300)
    pre = Encoder(torch.float32)(crosscoder, x)
    assert isinstance(pre, Screened)
    places, values = gates.batch_topk(pre, norms, 9 * 80)
    truth = exact(crosscoder, x)
    scores = (truth * norms.double()).flatten()
    chosen = torch.zeros(80 * 300, dtype=torch.bool)
    chosen[places] = True
    assert int(chosen.sum()) == len(places) == 9 * 80
    assert scores[chosen].min() > scores[~chosen].max() * (1 - 1e-5)
    torch.testing.assert_close(values.double(), truth.flatten()[places], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(pre.at(every).view(80, 300).double(), truth, atol=1e-4, rtol=1e-5)
    assert (pre.near(every).view(80, 300) - truth).abs().max() < 0.05 * truth.abs().max()
    some = torch.tensor([3, 250, 7])
    torch.testing.assert_close(pre.of(some).double(), truth[:, some], atol=1e-4, rtol=1e-5)


@pytest.mark.usefixtures("_screened")
def test_a_shortage_of_positive_ones_is_seen_through_the_bounds():
    """Most bounds are positive here and most pre-activations are not."""
    crosscoder, x = case(0)
    with torch.no_grad():
        truth = exact(crosscoder, x)
        crosscoder.b_enc.sub_(truth.flatten().sort().values[-500].float())
    positive = exact(crosscoder, x) > 0
    pre = Encoder(torch.float32)(crosscoder, x)
    assert int((pre.upper > 0).sum()) > int(positive.sum())
    places, values = gates.batch_topk(pre, crosscoder.decoder_norms().detach(), 9 * 80)
    assert (values > 0).all()
    assert abs(len(places) - int(positive.sum())) <= 1


@pytest.mark.usefixtures("_screened")
def test_fit_is_the_same_up_to_rounding(monkeypatch):
    rows, config = planted_rows(4000), CrosscoderConfig(n_models=3, d_model=24, n_latents=64, k=3)
    settings = TrainConfig(steps=30, batch_size=256)
    screened = train(rows, config, settings)
    monkeypatch.setattr(encoder, "is_screened", lambda *_: False)
    dense = train(rows, config, settings)
    torch.testing.assert_close(screened.decoder, dense.decoder, atol=1e-3, rtol=1e-3)
    assert not torch.equal(screened.decoder, dense.decoder)


def test_only_large_products_for_a_gate_that_ranks_the_batch_are_screened(monkeypatch):
    cpu, ranked = torch.device("cpu"), CONFIG.model_copy(update={"activation": "topk"})
    monkeypatch.setattr(encoder, "_multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(encoder, "SCREENED_FROM", 80 * 48 * 300)
    assert encoder.is_screened(CONFIG, 80, cpu)
    assert not encoder.is_screened(CONFIG, 79, cpu)
    assert not encoder.is_screened(ranked, 80, cpu)
    monkeypatch.setattr(encoder, "_multiplies_bfloat16", lambda device: False)
    assert not encoder.is_screened(CONFIG, 80, cpu)
