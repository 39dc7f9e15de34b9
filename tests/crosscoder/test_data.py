import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import data
from interp.crosscoder.data import batches, check_rows, finite_chunks, fit_normaliser, split_rows
from interp.errors import InterpError

from .samples import CONFIG, random_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(n=st.integers(5, 60_000), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_row_is_in_one_half_of_the_split(n, seed):
    split = split_rows(n, seeded(seed))
    assert torch.equal(torch.cat(split).sort().values, torch.arange(n))
    assert len(split.held_out) == min(max(-(-n // 20), 2048), n // 5)


def test_the_held_out_rows_are_drawn_from_everywhere():
    held_out = split_rows(100_000, seeded()).held_out.double()
    assert abs(held_out.mean() - 50_000) < 2_000 and held_out.std() > 25_000


@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), steps=st.integers(1, 30), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_row_is_seen_once_an_epoch(n, batch_size, steps, seed):
    places = torch.arange(n) * 3 + 100
    seen = torch.zeros(n, dtype=torch.long)
    for step, batch in enumerate(batches(places, batch_size, steps, seeded(seed)), 1):
        assert len(batch) == batch_size
        seen += torch.bincount((batch - 100) // 3, minlength=n)
        epochs, more = divmod(step * batch_size, n)
        assert seen.min() >= epochs and int((seen - epochs).sum()) == more and seen.max() <= epochs + 1
    assert step == steps


def test_epochs_differ_in_order():
    first, second = batches(torch.arange(1000), 500, 2, seeded()), batches(torch.arange(1000), 500, 4, seeded())
    taken = list(second)
    assert torch.equal(next(first), taken[0])
    assert not torch.equal(taken[0], taken[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_centred_rows_have_mean_squared_norm_d_model(dtype, monkeypatch):
    monkeypatch.setattr(data, "CHUNK_ELEMENTS", 24 * 100)  # many pieces
    rows = (random_rows(3001) * torch.tensor([1.0, 2.0, 0.1])[:, None]).to(dtype)
    fitted = fit_normaliser(rows, torch.arange(3001))
    truth = rows.double()
    torch.testing.assert_close(fitted.mean.double(), truth.mean(0), atol=1e-6, rtol=1e-6)
    centred = truth - truth.mean(0)
    squared_norm = (centred * fitted.scale.double()[:, None]).square().sum(2).mean(0)
    torch.testing.assert_close(squared_norm, torch.full((3,), 8.0).double(), atol=1e-5, rtol=1e-6)


def test_a_large_common_offset_does_not_spoil_the_scale():
    small = random_rows(2000).round()  # whole numbers, so that the offset rows are exact in fp32
    near, far = (fit_normaliser(small + offset, torch.arange(2000)) for offset in (0.0, 2.0**23))
    torch.testing.assert_close(near.scale, far.scale, atol=0, rtol=1e-6)


def test_statistics_are_those_of_the_training_rows():
    rows = random_rows(500)
    train = torch.arange(0, 500, 2)
    wanted = fit_normaliser(rows[train], torch.arange(250))
    rows[1::2] = 1e4
    fitted = fit_normaliser(rows, train)
    torch.testing.assert_close(fitted.mean, wanted.mean)
    torch.testing.assert_close(fitted.scale, wanted.scale)


def test_non_finite_rows_are_counted_wherever_they_are():
    rows = random_rows(500)
    rows[3, 0, 0], rows[3, 1, 1], rows[498, 2, 7] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(InterpError, match="2 of 500 hold NaN or infinite"):
        fit_normaliser(rows, torch.arange(400))
    with pytest.raises(InterpError, match="2 of 500"):
        list(finite_chunks(rows, 7))


def test_a_model_that_never_varies_is_named():
    rows = random_rows(500)
    rows[:, 1] = 0.1
    with pytest.raises(InterpError, match="model 1 never varies"):
        fit_normaliser(rows, torch.arange(500))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.zeros(10, 3), r"\[10, 3\] is not \[N, 3, 8\]"),
        (torch.zeros(10, 2, 8), r"\[10, 2, 8\] is not"),
        (torch.zeros(10, 3, 9), r"\[10, 3, 9\] is not"),
        (torch.zeros(10, 3, 8, dtype=torch.int64), "int64 is not a float type"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, said):
    with pytest.raises(InterpError, match=said):
        check_rows(rows, CONFIG)


@pytest.mark.parametrize("n", [0, 4])
def test_too_few_rows_to_hold_any_out(n):
    with pytest.raises(InterpError, match=f"{n} are too few"):
        split_rows(n, seeded())
