import math

import pytest
import torch

from interp.crosscoder import Crosscoder, CrosscoderConfig, evaluate
from interp.crosscoder import rows as rows_module
from interp.crosscoder.metrics import firing_histogram
from interp.crosscoder.sparse import Active
from interp.errors import InterpError

from .samples import random_crosscoder, random_rows


@pytest.mark.parametrize("pieces", [1, 9])
@torch.no_grad()
def test_every_number_is_that_of_the_whole(monkeypatch, pieces):
    rows = random_rows(1000) * torch.linspace(0.1, 3, 1000)[:, None, None]  # so that batches differ in variance
    monkeypatch.setattr(rows_module, "CHUNK_ELEMENTS", 40 * -(-1000 // pieces))
    crosscoder = random_crosscoder()
    crosscoder.threshold.fill_(6.0)
    crosscoder.b_enc[:9] = -1e4  # never active
    measured = evaluate(crosscoder, rows)
    f = crosscoder.encode(rows)
    x, x_hat = rows.double(), crosscoder.decode(f).double()
    for m in range(3):
        variance = (x[:, m] - x[:, m].mean(0)).square().sum()
        assert measured.fve[m] == pytest.approx(float(1 - (x_hat[:, m] - x[:, m]).square().sum() / variance), rel=1e-6)
    on = f > 0
    assert measured.n_rows == 1000
    assert measured.l0 == pytest.approx(float(on.double().sum(1).mean()))
    torch.testing.assert_close(measured.firing, on.double().mean(0))
    assert measured.dead_share == pytest.approx(9 / 40) == float((~on.any(0)).double().mean())


@torch.no_grad()
def test_fve_does_not_depend_on_the_unit():
    crosscoder, rows = random_crosscoder(), random_rows(300)
    measured = evaluate(crosscoder, rows)
    crosscoder.mean.mul_(2**-20), crosscoder.scale.mul_(2**20)
    assert evaluate(crosscoder, rows * 2**-20).fve == measured.fve


@torch.no_grad()
def test_the_mean_explains_nothing():
    crosscoder, rows = random_crosscoder(), random_rows(400)
    crosscoder.threshold.fill_(1e9)  # the code is empty, the bias puts the mean right
    crosscoder.b_dec.copy_(crosscoder.normalise(rows).mean(0))
    assert evaluate(crosscoder, rows).fve == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


@torch.no_grad()
def test_a_code_that_holds_every_coordinate_explains_all():
    """Latents for +x_i and -x_i of every coordinate: nothing is lost."""
    crosscoder = Crosscoder(CrosscoderConfig(n_models=2, d_model=4, n_latents=16, activation="relu"))
    both = torch.cat([torch.eye(8), -torch.eye(8)])
    crosscoder.encoder.copy_(both), crosscoder.decoder.copy_(both)
    crosscoder.mean.copy_(torch.arange(8.0).view(2, 4) / 8)
    crosscoder.scale.copy_(torch.tensor([[2.0], [0.5]]).expand(2, 4))
    rows = torch.randn(500, 2, 4, generator=torch.Generator().manual_seed(0))
    measured = evaluate(crosscoder, rows)
    assert measured.fve == pytest.approx((1.0, 1.0), abs=1e-9)
    assert measured.l0 == 8
    crosscoder.decoder[3, 3] = 0.5  # half of positive x_3 of the first model
    worse = evaluate(crosscoder, rows)
    assert worse.fve[0] < 0.99 and worse.fve[1] == pytest.approx(1.0)


def test_a_model_that_never_varies_has_no_fve():
    rows = random_rows(100)
    rows[:, 2] = random_crosscoder().mean[2]
    fve = evaluate(random_crosscoder(), rows).fve
    assert math.isnan(fve[2]) and not math.isnan(fve[0])


def test_rows_that_cannot_be_measured_are_refused():
    crosscoder, rows = random_crosscoder(), random_rows(10)
    with pytest.raises(InterpError, match="there are none"):
        evaluate(crosscoder, rows[:0])
    with pytest.raises(InterpError, match="is not"):
        evaluate(crosscoder, rows[:, :2])
    rows[4, 1, 3] = torch.nan
    with pytest.raises(InterpError, match="1 of 10"):
        evaluate(crosscoder, rows)


def test_the_histogram_counts_every_latent_once():
    firing = torch.tensor([0.0, 0.0, 0.001, 0.0031, 0.5, 1.0], dtype=torch.double)
    found = firing_histogram(firing)
    assert found["edges"] == pytest.approx([-3, -2.5, -2, -1.5, -1, -0.5, 0])
    assert found["counts"] == [2, 0, 0, 0, 0, 2] and found["dead"] == [2]
    assert firing_histogram(torch.zeros(3, dtype=torch.double))["dead"] == [3]


def test_the_histogram_of_latents_that_always_fire():
    found = firing_histogram(torch.tensor([0.0, 1.0, 1.0], dtype=torch.double))
    assert found == {"edges": [-1.0, -0.5, 0.0], "counts": [0.0, 2.0], "dead": [1.0]}


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.0, 40.0])
def test_a_sparse_code_is_decoded_like_a_dense_one(threshold):
    crosscoder, rows = random_crosscoder(), random_rows(200)
    crosscoder.threshold.fill_(threshold)
    f = crosscoder.encode(rows)
    active = Active.at(f.flatten().nonzero().squeeze(1), *f.shape)
    assert active.is_dense == (threshold == 0.0)
    torch.testing.assert_close(
        crosscoder.decode_active(f[active.row, active.latent], active), crosscoder.decode(f), atol=1e-4, rtol=1e-5
    )
