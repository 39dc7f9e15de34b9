"""Values and gradients of the sparse engine against plain dense autograd."""

import math

import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, encoder, sparse
from interp.crosscoder.encoder import Encoder
from interp.crosscoder.loss import aux_k, forward, squared_error

from . import reference
from .samples import CONFIG, random_crosscoder, random_rows

DEAD = torch.arange(CONFIG.n_latents) % 3 == 0
BANDWIDTH = 0.8
KINDS = ("batch_topk", "topk", "jumprelu", "relu")


def crosscoder_of(kind, k=4, dtype=torch.double, seed=0):
    shape = CONFIG.model_dump() | {"activation": kind, "k": k if kind.endswith("topk") else None}
    crosscoder = random_crosscoder(CrosscoderConfig(**shape), seed)
    if kind == "jumprelu":
        with torch.no_grad():
            crosscoder.log_threshold.uniform_(math.log(0.3), math.log(3.0), generator=torch.Generator().manual_seed(5))
    return crosscoder.to(dtype)


def losses(crosscoder, x, dead=DEAD, k_aux=3):
    """(loss, penalty, aux) of the engine; x [batch, models, d_model] in normalised space."""
    flat, d = x.flatten(1), crosscoder.config.d_model
    pre = Encoder(x.dtype)(crosscoder, flat)
    out = forward(crosscoder, flat, pre, crosscoder.config.k, BANDWIDTH)
    aux = aux_k(crosscoder, flat, pre, flat - out.x_hat, dead, TrainConfig(k_aux=k_aux))
    return squared_error(out.x_hat, flat, d), out.penalty, aux


def reference_losses(crosscoder, x, dead=DEAD, k_aux=3):
    pre, f, penalty = reference.training_code(crosscoder, x, crosscoder.config.k, BANDWIDTH)
    x_hat = reference.reconstruct(f, crosscoder.W_dec, crosscoder.b_dec)
    aux = reference.aux(pre, crosscoder.W_dec, (x - x_hat).detach(), dead, k_aux)
    return reference.loss(x_hat, x), penalty, aux


def gradients(total, crosscoder):
    weights = dict(crosscoder.named_parameters())
    found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), found, strict=True)}


def assert_equal(crosscoder, x, *, atol, rtol, dead=DEAD, k_aux=3):
    """Values within rtol, and each gradient within rtol of its largest entry."""
    exact = type(crosscoder)(crosscoder.config).double()
    exact.load_state_dict({name: tensor.double() for name, tensor in crosscoder.state_dict().items()})
    ours, plain = losses(crosscoder, x, dead, k_aux), reference_losses(exact, x.double(), dead, k_aux)
    for value, truth in zip(ours, plain, strict=True):
        torch.testing.assert_close(value.double(), truth.double(), atol=atol, rtol=rtol)
    weights = (1.0, 0.3, 1 / 32)
    found = gradients(sum(w * v for w, v in zip(weights, ours, strict=True)), crosscoder)
    truth = gradients(sum(w * v for w, v in zip(weights, plain, strict=True)), exact)
    for name in found:
        allowed = rtol * float(truth[name].abs().max()) + atol
        assert (found[name].double() - truth[name]).abs().max() <= allowed, name
    return found


@pytest.mark.parametrize("share", [2.0, -1.0, sparse.DENSE_SHARE], ids=["sparse", "dense", "chosen"])
@pytest.mark.parametrize("k_aux", [3, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_the_references(kind, k_aux, share, monkeypatch):
    monkeypatch.setattr(sparse, "DENSE_SHARE", share)
    found = assert_equal(crosscoder_of(kind), random_rows(25).double(), k_aux=k_aux, atol=1e-12, rtol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in found.values())


@pytest.mark.parametrize("kind", [*KINDS, "screened"])
@pytest.mark.parametrize("seed", range(4))
def test_in_fp32_they_are_equal_to_1e_5(kind, seed, monkeypatch):
    if kind == "screened":
        kind = "batch_topk"
        monkeypatch.setattr(encoder, "is_screened", lambda *_: True)
    config = CrosscoderConfig(
        n_models=2, d_model=24, n_latents=300, k=9 if kind.endswith("topk") else None, activation=kind
    )
    crosscoder, x = random_crosscoder(config, seed), random_rows(64, config, seed)
    dead = torch.arange(300) % 5 == 0
    assert_equal(crosscoder, x, dead=dead, k_aux=12, atol=1e-9, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_ties_of_equal_rows(kind):
    """Every row comes three times; where a choice cuts through equals, the batch's first ones are taken by both."""
    x = random_rows(9).double().repeat(3, 1, 1)
    assert_equal(crosscoder_of(kind), x, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_zero_rows(kind):
    x = random_rows(12).double()
    x[3:7] = 0
    assert_equal(crosscoder_of(kind), x, atol=1e-12, rtol=1e-9)
    crosscoder = crosscoder_of(kind)
    with torch.no_grad():
        crosscoder.b_enc.zero_()
    assert_equal(crosscoder, torch.zeros_like(x), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", ["batch_topk", "topk"])
def test_with_k_larger_than_the_positive_activations(kind):
    crosscoder, x = crosscoder_of(kind, k=40), random_rows(12).double()
    with torch.no_grad():
        crosscoder.b_enc -= 3.0
    pre = Encoder(torch.double)(crosscoder, x.flatten(1))
    assert 0 < int((pre.upper > 0).sum()) < 40 * 12
    assert_equal(crosscoder, x, atol=1e-12, rtol=1e-9)


def test_aux_teaches_dead_latents_only():
    crosscoder = crosscoder_of("batch_topk")
    _, _, aux = losses(crosscoder, random_rows(25).double())
    enc, dec = torch.autograd.grad(aux, [crosscoder.encoder, crosscoder.decoder])
    assert enc[DEAD].abs().sum() > 0 and dec[DEAD].abs().sum() > 0
    assert not enc[~DEAD].any() and not dec[~DEAD].any()


def test_aux_is_nothing_where_none_is_dead():
    _, _, aux = losses(crosscoder_of("batch_topk"), random_rows(25).double(), torch.zeros_like(DEAD))
    assert float(aux) == 0


@pytest.mark.parametrize("kind", ["batch_topk", "topk"])
def test_exactly_k_a_row_are_kept_on_average(kind):
    crosscoder, x = crosscoder_of(kind), random_rows(25).double().flatten(1)
    out = forward(crosscoder, x, Encoder(x.dtype)(crosscoder, x), 4, BANDWIDTH)
    assert len(out.values) == CONFIG.k * len(x)
    if kind == "topk":
        assert torch.bincount(out.active.row).eq(CONFIG.k).all()


def test_a_bf16_product_changes_the_values_by_its_rounding_only():
    crosscoder, x = crosscoder_of("relu", dtype=torch.float32), random_rows(200).flatten(1)
    exact, rounded = (Encoder(dtype)(crosscoder, x) for dtype in (torch.float32, torch.bfloat16))
    assert rounded.upper.dtype == torch.bfloat16
    assert 0 < (exact.upper - rounded.upper).abs().max() < 0.02 * exact.upper.abs().max()
    out = forward(crosscoder, x, rounded, None, BANDWIDTH)
    assert out.x_hat.dtype == torch.float32


def test_the_mean_alone_costs_the_number_of_models_on_normalised_rows():
    rows = random_rows(4000)
    normalised = (rows - rows.mean(0)) * (8 / (rows - rows.mean(0)).square().sum(2).mean(0)).sqrt()[:, None]
    flat = normalised.flatten(1)
    torch.testing.assert_close(squared_error(torch.zeros_like(flat), flat, 8), torch.tensor(3.0))
