"""Products with a sparse code against plain ones, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import sparse
from interp.crosscoder.sparse import Active, decode, encoded, latent_sums


@pytest.fixture(params=["sparse", "dense"])
def branch(request, monkeypatch):
    """Both ways a product can go, whatever the code's density."""
    monkeypatch.setattr(sparse, "DENSE_SHARE", 2.0 if request.param == "sparse" else -1.0)


def problem(rows, latents, width, share, seed):
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(rows, latents, generator=generator) < share
    places = on.flatten().nonzero().squeeze(1)
    values, weights, x = (
        torch.randn(shape, generator=generator, dtype=torch.double)
        for shape in ((len(places),), (latents, width), (rows, width))
    )
    return Active.at(places, rows, latents), values, weights, x


SIZES = st.integers(1, 9)


@given(rows=SIZES, latents=SIZES, width=SIZES, share=st.sampled_from([0.0, 0.2, 0.7, 1.0]), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("dense", [True, False])
def test_all_products_are_the_plain_ones(dense, rows, latents, width, share, seed):
    active, values, weights, x = problem(rows, latents, width, share, seed)
    code = torch.zeros(rows, latents, dtype=torch.double)
    code[active.row, active.latent] = values
    assert torch.equal(active.dense(values), code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "DENSE_SHARE", -1.0 if dense else 2.0)
        torch.testing.assert_close(sparse.weighted_rows(values, active, weights), code @ weights)
        torch.testing.assert_close(sparse.weighted_latents(values, active, x), code.T @ x)
        torch.testing.assert_close(latent_sums(values, active), code.sum(0))
        at = (active.row, active.latent)
        torch.testing.assert_close(sparse.sampled_product(x, weights, active), (x @ weights.T)[at])


@pytest.mark.usefixtures("branch")
def test_gradients_of_decode():
    active, values, weights, _ = problem(5, 7, 4, 0.4, 0)
    values.requires_grad_(), weights.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: decode(v, w, active), (values, weights))


@pytest.mark.usefixtures("branch")
def test_gradients_of_the_encoder_are_those_of_the_product():
    active, weight_on_f, W_enc, x = problem(6, 8, 5, 0.4, 1)
    b_enc = torch.randn(8, dtype=torch.double)
    for tensor in (W_enc, b_enc):
        tensor.requires_grad_()
    plain = (x @ W_enc.T + b_enc)[active.row, active.latent]
    wanted = torch.autograd.grad((plain * weight_on_f).sum(), [W_enc, b_enc])
    ours = encoded(plain.detach(), x, W_enc, b_enc, active)
    assert torch.equal(ours, plain)
    for found, truth in zip(torch.autograd.grad((ours * weight_on_f).sum(), [W_enc, b_enc]), wanted, strict=True):
        torch.testing.assert_close(found, truth)


def test_the_same_bits_every_time_and_for_each_row_alone():
    active, values, weights, _ = problem(40, 60, 33, 0.05, 2)
    whole = sparse.weighted_rows(values.float(), active, weights.float())
    assert torch.equal(whole, sparse.weighted_rows(values.float(), active, weights.float()))
    first = active.row < 13
    part = Active(13, 60, active.row[first], active.latent[first])
    assert torch.equal(sparse.weighted_rows(values[first].float(), part, weights.float()), whole[:13])


def test_only_positive_values_fire():
    active = Active.at(torch.tensor([0, 2, 4]), 2, 3)
    assert active.fired(torch.tensor([0.5, 0.0, -1.0])).tolist() == [True, False, False]


def test_a_product_reads_active_latents_only():
    """A weight that no active entry names may be anything."""
    active, values, weights, x = problem(10, 50, 6, 0.03, 3)
    idle = torch.ones(50, dtype=torch.bool)
    idle[active.latent] = False
    assert not active.is_dense and idle.any()
    poisoned = weights.clone()
    poisoned[idle] = torch.nan
    assert torch.equal(sparse.weighted_rows(values, active, poisoned), sparse.weighted_rows(values, active, weights))
    assert sparse.sampled_product(x, poisoned, active).isfinite().all()
    assert not sparse.weighted_latents(values, active, x)[idle].any()
