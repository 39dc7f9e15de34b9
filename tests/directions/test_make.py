"""Planted directions are recovered with their sign, and random ones have the distribution they claim."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from interp.directions import (
    Provenance,
    difference_of_means,
    from_latents,
    probe,
    random_in_covariance,
    random_like,
)
from interp.errors import InterpError

from .examples import direction

D = 24
ABOUT = Provenance(model="distilled", positions="forks", texts_hash="b" * 64)
f64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


PLANTED = normal(D, seed=1)
MEAN = 20 * normal(D, seed=2)
"""The residual's mean, far larger than the planted difference."""


def sides(n=2000, noise=0.5):
    """Rows with +planted and without, float32."""
    inside = MEAN + PLANTED + noise * normal(n, D, seed=3)
    return inside.float(), (MEAN + noise * normal(n // 2, D, seed=4)).float()


@pytest.mark.parametrize("make", [difference_of_means, probe])
def test_the_planted_direction_is_recovered_and_points_inside(make):
    inside, outside = sides()
    made = make(inside, outside, layer=5, site="resid_mid", about=ABOUT)
    assert cosine(made.vector, PLANTED) > 0.99
    assert made.norm == pytest.approx(float(PLANTED.norm()), rel=0.03)
    assert cosine(make(outside, inside, layer=5).vector, PLANTED) < -0.99
    about = made.provenance
    assert (made.hook_name, about.method) == ("blocks.5.hook_resid_mid", make.__name__)
    assert (about.rows_inside, about.rows_outside) == (2000, 1000)
    assert (about.model, about.positions, about.texts_hash) == ("distilled", "forks", "b" * 64)
    norms = torch.cat([inside, outside]).double().norm(dim=1)
    assert about.residual_norm == pytest.approx(float(norms.mean()), rel=1e-9)
    assert about.norm == pytest.approx(made.norm)
    assert about.version and about.date.endswith("+00:00")


def test_the_difference_is_that_of_the_means_to_float32s_rounding():
    inside, outside = sides(100)
    expected = (inside.double().mean(0) - outside.double().mean(0)).float()
    assert torch.equal(difference_of_means(inside, outside, layer=0).vector, expected)


def test_what_the_caller_has_said_is_kept():
    about = Provenance(residual_norm=3.0, date="2025-01-01", evidence={"fold": 2, "l2": "mine"})
    made = probe(*sides(50), layer=0, about=about).provenance
    assert (made.residual_norm, made.date) == (3.0, "2025-01-01")
    assert (made.evidence["fold"], made.evidence["l2"]) == (2, "mine")


def test_the_probe_recovers_the_weights_that_drew_the_labels():
    """Its normal, which with correlated coordinates is not the difference of the means."""
    mixing = normal(D, D, seed=5) / math.sqrt(D)
    rows = normal(8000, D, seed=6) @ mixing
    true = PLANTED / (mixing @ PLANTED).norm() * 3
    labels = torch.rand(8000, generator=torch.Generator().manual_seed(7), dtype=f64) < (rows @ true).sigmoid()
    made = probe(rows[labels], rows[~labels], 1e-6, layer=0)
    assert cosine(mixing @ made.vector.double(), mixing @ true) > 0.99
    assert cosine(difference_of_means(rows[labels], rows[~labels], layer=0).vector, true) < 0.9


def test_the_probe_minimises_its_formula():
    positive, negative = sides(60, noise=2.0)
    l2 = 0.05
    made = probe(positive, negative, l2, layer=0)
    middle = (positive.double().mean(0) + negative.double().mean(0)) / 2
    rows = torch.cat([positive, negative]).double() - middle
    scale = rows.square().mean().sqrt()
    x, n = (rows / scale).numpy(), len(positive)

    def loss_and_gradient(theta):
        w, z = theta[:-1], x @ theta[:-1] + theta[-1]
        signs = np.repeat([-1.0, 1.0], [n, len(negative)])
        shares = np.repeat([0.5 / n, 0.5 / len(negative)], [n, len(negative)])
        slopes = shares * signs / (1 + np.exp(-signs * z))
        value = shares @ np.logaddexp(0, signs * z) + l2 / 2 * w @ w
        return value, np.append(x.T @ slopes + l2 * w, slopes.sum())

    w = torch.from_numpy(minimize(loss_and_gradient, np.zeros(D + 1), jac=True, options={"gtol": 1e-9}).x[:-1])
    assert cosine(made.vector, w) > 1 - 1e-8
    between = (positive.double().mean(0) - negative.double().mean(0)) @ (w / w.norm())
    assert made.norm == pytest.approx(float(between), rel=1e-5)


def test_the_probe_is_deterministic_and_says_how_well_it_does():
    made = [probe(*sides(80), layer=1, about=Provenance(date="x")) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].provenance.evidence == {"l2": 1e-2, "training_accuracy": 1.0}


def test_latents_are_summed_with_their_weights():
    rows = normal(3, D).float()
    made = from_latents(rows, [9, 4, 7], [1.0, -2.0, 0.5], layer=2, about=Provenance(crosscoder_hash="c"))
    assert torch.allclose(made.vector, rows[0] - 2 * rows[1] + rows[2] / 2, atol=1e-6)
    about = made.provenance
    assert (about.latents, about.evidence, about.crosscoder_hash) == ((9, 4, 7), {"weights": [1.0, -2.0, 0.5]}, "c")
    assert about.residual_norm is None
    assert torch.allclose(from_latents(rows, [9, 4, 7], layer=2).vector, rows.sum(0), atol=1e-6)
    assert torch.equal(from_latents(rows[:1], [9], torch.tensor([2.0]), layer=2).vector, 2 * rows[0])


@pytest.mark.parametrize(
    ("latents", "weights", "match"),
    [
        ([1], None, "2 decoder rows, 1 latents and 1 weights"),
        ([1, 2], [1.0], "2 latents and 1 weights"),
        ([1, 2], [1.0, math.nan], "a weight is NaN"),
        ([1, 2], [0.0, 0.0], "is zero"),
    ],
)
def test_latents_that_do_not_fit_are_refused(latents, weights, match):
    with pytest.raises(InterpError, match=match):
        from_latents(torch.ones(2, 3), latents, weights, layer=0)


@pytest.mark.parametrize("make", [difference_of_means, probe])
@pytest.mark.parametrize(
    ("inside", "outside", "match"),
    [
        (torch.ones(0, 3), torch.ones(2, 3), r"first side has shape \[0, 3\]"),
        (torch.ones(2, 3), torch.ones(0, 3), r"second side has shape \[0, 3\]"),
        (torch.ones(2, 3), torch.ones(2, 4), r"second side has shape \[2, 4\]"),
        (torch.ones(2, 3), torch.full((2, 3), math.nan), "NaN or infinity"),
        (torch.ones(2, 3), torch.ones(5, 3), "is zero|all rows are equal"),
    ],
)
def test_rows_without_a_direction_are_refused(make, inside, outside, match):
    with pytest.raises(InterpError, match=match):
        make(inside, outside, layer=0)


@pytest.mark.parametrize("l2", [0.0, -1.0, math.nan])
def test_a_probe_needs_a_penalty(l2):
    with pytest.raises(InterpError, match="raise it"):
        probe(*sides(10), l2, layer=0)


LIKE = direction(PLANTED.tolist())


def test_random_directions_are_isotropic_of_equal_norm():
    drawn = random_like(LIKE, 600, seed=0)
    units = torch.stack([d.unit().vector for d in drawn]).double()
    assert all(d.norm == pytest.approx(LIKE.norm, rel=1e-6) and d.hook_name == LIKE.hook_name for d in drawn[:50])
    assert float(units.mean(0).norm()) < 0.08
    spectrum = torch.linalg.eigvalsh(units.T @ units / len(units)) * D
    assert float(spectrum.min()) > 0.6 and float(spectrum.max()) < 1.5  # 600 draws in 24 dimensions


def spread_rows(n=500):
    """Rows whose variance falls by 1/i² along rotated axes, around a large mean."""
    axes = torch.linalg.qr(normal(D, D, seed=8)).Q
    return MEAN + (normal(n, D, seed=9) / torch.arange(1, D + 1)) @ axes.T


def test_draws_in_the_covariance_have_its_moments(monkeypatch):
    """Of a vector's share along principal direction i, against N(0, Σ) computed with the factor of Σ in float64."""
    monkeypatch.setattr("interp.directions.random._CHUNK", 96)
    rows = spread_rows()
    drawn = torch.stack([d.unit().vector for d in random_in_covariance(LIKE, rows.float(), 600, seed=1)]).double()
    covariance = torch.cov(rows.T)
    values, axes = torch.linalg.eigh(covariance)
    expected = (normal(40_000, D, seed=10) * values.sqrt()) @ axes.T
    expected = expected / expected.norm(dim=1, keepdim=True)
    mine, reference = ((x @ axes).square().mean(0) for x in (drawn, expected))
    assert torch.allclose(mine, reference, atol=0.04)
    assert mine[-1] > 0.4 and float((drawn @ axes[:, 0]).square().mean()) < 0.01
    along_mean = [float((x @ MEAN / MEAN.norm()).square().mean()) for x in (drawn, expected)]
    assert along_mean[0] == pytest.approx(along_mean[1], abs=0.03)  # not 1: the rows' large mean is no variance
    assert float(drawn.mean(0).norm()) < 0.1


def test_a_draw_depends_on_seed_and_number_alone():
    rows = spread_rows(50)
    for draw in (lambda n, seed: random_like(LIKE, n, seed), lambda n, seed: random_in_covariance(LIKE, rows, n, seed)):
        few, many = draw(2, 5), draw(6, 5)
        assert [torch.equal(a.vector, b.vector) for a, b in zip(few, many, strict=False)] == [True, True]
        assert not torch.equal(draw(1, 6)[0].vector, few[0].vector)
        assert draw(0, 5) == []


def test_a_draw_says_what_it_is_a_control_of():
    made = random_like(LIKE, 3, seed=7)[2].provenance
    assert (made.method, made.evidence) == ("random_like", {"seed": 7, "draw": 2})
    assert (made.model, made.residual_norm, made.rows_inside) == ("distilled", 40.0, None)
    assert made.parents == (LIKE.provenance.without_evidence(),)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (torch.ones(1, D), "no covariance"),
        (torch.ones(5, D + 1), "no covariance"),
        (torch.ones(5, D), "all rows are equal"),
        (torch.full((5, D), math.nan), "NaN"),
    ],
)
def test_rows_without_a_covariance_are_refused(rows, match):
    with pytest.raises(InterpError, match=match):
        random_in_covariance(LIKE, rows, 2, seed=0)


def test_numbers_below_0_are_refused():
    for draws, seed in ((-1, 0), (1, -1)):
        with pytest.raises(InterpError, match="give numbers from 0"):
            random_like(LIKE, draws, seed)
