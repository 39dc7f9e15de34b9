"""Loss and gradients against the plain reference; in float64, so that the tolerance can be tight."""

import pytest
import torch

from interp.crosscoder.loss import aux_k, squared_error
from interp.crosscoder.training import forward

from . import reference
from .samples import CONFIG, random_crosscoder, random_rows

DEAD = torch.arange(CONFIG.n_latents) % 3 == 0


def losses(crosscoder, x, dead, k_aux):
    out = forward(crosscoder, x)
    return squared_error(out.x_hat, x), aux_k(crosscoder, out.pre, x - out.x_hat, dead, k_aux), out


def reference_losses(crosscoder, x, dead, k_aux):
    pre = reference.pre_activations(x, crosscoder.W_enc, crosscoder.b_enc)
    f = pre.relu()
    mask = reference.top_mask(reference.scores(f, crosscoder.W_dec).detach(), CONFIG.k * len(x))
    x_hat = reference.reconstruct(f * mask, crosscoder.W_dec, crosscoder.b_dec)
    return reference.loss(x_hat, x), reference.aux(pre, crosscoder.W_dec, (x - x_hat).detach(), dead, k_aux), mask


@pytest.fixture
def crosscoder():
    return random_crosscoder().double()


@pytest.fixture
def x():
    return random_rows(25).double()


@pytest.mark.parametrize("k_aux", [3, 1000])
def test_losses_and_gradients_are_the_references(crosscoder, x, k_aux):
    weights = dict(crosscoder.named_parameters())
    main, aux, out = losses(crosscoder, x, DEAD, k_aux)
    wanted_main, wanted_aux, wanted_mask = reference_losses(crosscoder, x, DEAD, k_aux)
    assert torch.equal(out.kept, wanted_mask)
    torch.testing.assert_close(main, wanted_main, atol=0, rtol=1e-10)
    torch.testing.assert_close(aux, wanted_aux, atol=0, rtol=1e-10)
    assert aux > 0
    gradients = torch.autograd.grad(main + aux / 32, list(weights.values()))
    wanted = torch.autograd.grad(wanted_main + wanted_aux / 32, list(weights.values()))
    for name, gradient, truth in zip(weights, gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, truth, atol=1e-12, rtol=1e-9, msg=name)
        assert truth.abs().max() > 0, name


def test_aux_teaches_dead_latents_only(crosscoder, x):
    _, aux, _ = losses(crosscoder, x, DEAD, 3)
    enc, dec = torch.autograd.grad(aux, [crosscoder.W_enc, crosscoder.W_dec])
    assert enc[:, :, DEAD].abs().sum() > 0 and dec[DEAD].abs().sum() > 0
    assert not enc[:, :, ~DEAD].any() and not dec[~DEAD].any()


def test_aux_is_nothing_where_none_is_dead(crosscoder, x):
    _, aux, _ = losses(crosscoder, x, torch.zeros_like(DEAD), 3)
    assert float(aux) == 0


def test_exactly_k_a_row_are_kept_on_average(crosscoder, x):
    assert int(forward(crosscoder, x).kept.sum()) == CONFIG.k * len(x)


def test_the_mean_alone_costs_the_number_of_models_on_normalised_rows():
    rows = random_rows(4000)
    normalised = (rows - rows.mean(0)) * (8 / (rows - rows.mean(0)).square().sum(2).mean(0)).sqrt()[:, None]
    torch.testing.assert_close(squared_error(torch.zeros_like(normalised), normalised), torch.tensor(3.0))
