"""The threshold of the gate at inference."""

import warnings

import pytest
import torch

from interp.crosscoder import CrosscoderConfig
from interp.crosscoder.metrics import calibrate
from interp.errors import InterpError

from .samples import CONFIG, random_crosscoder, random_rows


@pytest.fixture(scope="module")
def rows():
    return random_rows(3000)


@pytest.mark.parametrize("pieces", [1, 8])
@pytest.mark.parametrize("k", [1, 4, 9])
@torch.no_grad()
def test_calibration_is_exact_where_scores_differ(k, pieces, rows):
    crosscoder = random_crosscoder(CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=k))
    some = rows[1000:1777]
    crosscoder.threshold.copy_(calibrate(crosscoder, lambda: some.split(800 // pieces)))
    assert int((crosscoder.encode(some) > 0).sum()) == k * len(some)


def test_calibration_says_where_it_cannot_reach_k(rows):
    crosscoder = random_crosscoder()
    with torch.no_grad():
        crosscoder.b_enc.fill_(-60.0)  # hardly anything is positive
    with pytest.warns(UserWarning, match="L0 on held-out rows is 0.*not k=4"):
        threshold = calibrate(crosscoder, lambda: [rows[:500]])
    assert float(threshold) == 0


def sorted_scores(crosscoder, rows):
    x = crosscoder.normalise(rows)
    return (crosscoder.pre_activations(x).relu() * crosscoder.decoder_norms()).flatten().sort(descending=True).values


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("k", [1, 4, 9])
@torch.no_grad()
def test_the_threshold_is_the_midpoint_of_the_last_kept_and_the_first_dropped(k, decimals, rows):
    """To the bit, whatever equal scores there are."""
    crosscoder, some = random_crosscoder(CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=k)), rows[:300]
    crosscoder.encoder.copy_(crosscoder.encoder.round(decimals=decimals))
    crosscoder.decoder.copy_(torch.nn.functional.one_hot(torch.arange(40) % 24, 24))  # norm 1
    crosscoder.b_enc.zero_(), crosscoder.mean.zero_(), crosscoder.scale.fill_(1.0)
    some = (some * 4).round(decimals=decimals) / 4
    scores = sorted_scores(crosscoder, some)
    last, first = scores[k * 300 - 1], scores[k * 300]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threshold = calibrate(crosscoder, lambda: some.split(70))
    assert threshold == torch.stack([last, first]).mean()


def test_equal_scores_at_the_threshold_are_warned_of(rows):
    crosscoder, some = random_crosscoder(), rows[:1].expand(300, -1, -1)
    scores = sorted_scores(crosscoder, some)
    k = int((scores > 0).sum()) // 300 - 1
    crosscoder.config = CONFIG.model_copy(update={"k": k})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(crosscoder, lambda: [some])  # k falls between two latents here
    with torch.no_grad():
        crosscoder.encoder[:20], crosscoder.decoder[:20] = crosscoder.encoder[20:], crosscoder.decoder[20:]
        crosscoder.b_enc[:20] = crosscoder.b_enc[20:]
    crosscoder.config = CONFIG.model_copy(update={"k": 3})  # every score comes twice
    with pytest.warns(UserWarning, match=r"L0 on held-out rows is 2\.00, not k=3"):
        calibrate(crosscoder, lambda: [some])


def test_without_rows_there_is_no_threshold():
    with pytest.raises(InterpError, match="none to calibrate"):
        calibrate(random_crosscoder(), list)
