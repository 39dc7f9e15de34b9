"""What becomes of rows before any is trained on."""

import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig
from interp.crosscoder import rows as rows_module
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.rows import Limits, TensorRows, as_source, fingerprint, fit_normaliser, judge, norms_of
from interp.errors import InterpError

from .samples import CONFIG, random_rows

SETTINGS = TrainConfig(steps=10, batch_size=32)


def pieces(rows, size):
    return (part.float() for part in rows.split(size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_centred_rows_have_mean_squared_norm_d_model(dtype):
    rows = (random_rows(3001) * torch.tensor([1.0, 2.0, 0.1])[:, None]).to(dtype)
    fitted = fit_normaliser(pieces(rows, 100))
    truth = rows.double()
    torch.testing.assert_close(fitted.mean.double(), truth.mean(0), atol=1e-6, rtol=1e-6)
    centred = truth - truth.mean(0)
    squared_norm = (centred * fitted.scale.double()[:, None]).square().sum(2).mean(0)
    torch.testing.assert_close(squared_norm, torch.full((3,), 8.0).double(), atol=1e-5, rtol=1e-6)


def test_a_large_common_offset_does_not_spoil_the_scale():
    small = random_rows(2000).round()  # whole numbers, so that the offset rows are exact in fp32
    near, far = (fit_normaliser([small + offset]) for offset in (0.0, 2.0**23))
    torch.testing.assert_close(near.scale, far.scale, atol=0, rtol=1e-6)


def test_a_model_that_never_varies_is_named():
    rows = random_rows(500)
    rows[:, 1] = 0.1
    with pytest.raises(InterpError, match="model 1 never varies"):
        fit_normaliser([rows])


def test_statistics_are_those_of_the_training_rows():
    rows = random_rows(4000)
    feed = open_feed(rows, CONFIG, SETTINGS)
    held_out = torch.cat(list(feed.held_out(100)))
    is_held_out = (rows[:, None, 0, 0] == held_out[None, :, 0, 0]).any(1)
    assert int(is_held_out.sum()) == feed.n_held_out == len(held_out) == 800
    wanted = fit_normaliser([rows[~is_held_out]])
    torch.testing.assert_close(feed.normaliser.mean, wanted.mean)
    torch.testing.assert_close(feed.normaliser.scale, wanted.scale)


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_bad_and_outlying_rows_are_counted_and_never_seen(chunk, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK_ELEMENTS", 24 * chunk)
    rows = random_rows(3000)
    rows[3, 0, 0], rows[3, 1, 1], rows[2998, 2, 7] = torch.nan, torch.inf, -torch.inf
    rows[[50, 60, 70]] *= 200
    rows[80, 1] *= 200  # in one model only
    feed = open_feed(rows, CONFIG, SETTINGS.model_copy(update={"outlier_ratio": 50.0, "steps": 300}))
    assert feed.judged == (2, 4)
    seen = torch.cat([torch.cat(list(feed.batches(0))), *feed.held_out(100)])
    assert seen.isfinite().all() and seen.norm(dim=2).max() < 50 * rows.norm(dim=2).nanmedian()
    assert len(seen[:, 0, 0].unique()) == 3000 - 6


def test_a_value_whose_square_overflows_is_no_infinity():
    rows = torch.full((1, 1, 8), 1e30)
    assert norms_of(rows).isfinite().all()


def test_many_bad_rows_are_refused():
    rows = random_rows(3000)
    rows[:31, 1, 2] = torch.inf
    with pytest.raises(InterpError, match="31 of 3000 hold NaN or infinite"):
        open_feed(rows, CONFIG, SETTINGS)
    rows[:1, 1, 2] = 0.0
    open_feed(rows, CONFIG, SETTINGS)


def test_a_model_that_is_mostly_silent_has_no_outliers():
    norms = torch.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 1.0], [0.0, 300.0]])
    judged = judge(norms, Limits.of(norms, 100.0))
    assert (judged.good.tolist(), judged.n_outlying) == ([True, True, True, False], 1)


def test_equal_rows_have_equal_fingerprints_and_others_others():
    rows = random_rows(100)
    assert fingerprint(rows) == fingerprint(rows.clone()) == TensorRows(rows).fingerprint()
    changed = rows.clone()
    changed[99, 2, 7] += 1e-3
    assert len({fingerprint(r) for r in (rows, changed, rows.double(), rows[:99], rows.view(50, 6, 8))}) == 5


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.zeros(10, 3), r"\[10, 3\] is not \[N, 3, 8\]"),
        (torch.zeros(10, 2, 8), r"\[10, 2, 8\] is not"),
        (torch.zeros(10, 3, 9), r"\[10, 3, 9\] is not"),
        (torch.zeros(10, 3, 8, dtype=torch.int64), "int64 is not a float type"),
        (TensorRows(torch.zeros(10, 2, 8)), r"\[10, 2, 8\] is not"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, said):
    with pytest.raises(InterpError, match=said):
        as_source(rows, CONFIG)


@pytest.mark.parametrize("n", [0, 4])
def test_too_few_rows_to_hold_any_out(n):
    with pytest.raises(InterpError, match=f"{n} are too few"):
        open_feed(random_rows(n), CONFIG, SETTINGS)


def test_models_of_another_number_are_refused_in_a_stream_too():
    with pytest.raises(InterpError, match="is not"):
        open_feed([random_rows(50)], CrosscoderConfig(n_models=2, d_model=8, n_latents=4, k=1), SETTINGS)
