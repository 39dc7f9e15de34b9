"""Training on rows that pass by."""

import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, train, train_many
from interp.crosscoder.feeds import open_feed
from interp.errors import InterpError

from .samples import CONFIG, planted_rows, random_rows

N = 4000


class Harvest:
    """Rows in pieces of uneven size; counts how often it was started."""

    def __init__(self, rows):
        self.rows, self.starts = rows, 0

    def __iter__(self):
        self.starts += 1
        return iter(self.rows.split([7, 393, 600, 1, 999, len(self.rows) - 2000]))


def settings(**changes):
    return TrainConfig(**{"steps": 20, "batch_size": 64, "shuffle_rows": 1000, "log_every": 10} | changes)


@pytest.fixture
def rows():
    rows = random_rows(N)
    rows[:, 0, 0] = torch.arange(N)  # tells the rows apart
    return rows


def numbers(batches):
    return torch.cat([batch[:, 0, 0] for batch in batches]).long()


def test_every_row_that_is_not_held_out_comes_once_a_pass(rows):
    stream = Harvest(rows)
    feed = open_feed(stream, CONFIG, settings(steps=(N - 200) * 3 // 64 + 20))
    held_out = numbers(feed.held_out(50))
    assert len(held_out) == feed.n_held_out == 200 and held_out.max() < 1000
    seen = torch.bincount(numbers(feed.batches(0)), minlength=N)
    assert stream.starts == 4  # the buffer begins to hold the fourth pass before the third is used up
    assert not seen[held_out].any()
    trained = torch.ones(N, dtype=torch.bool)
    trained[held_out] = False
    assert seen[trained].min() >= 3 - 1 and seen[trained].max() <= 4
    first_pass = numbers(feed.batches(0))[: N - 200 - 1000]  # before the next pass comes into the buffer
    assert len(first_pass.unique()) == len(first_pass)


def test_neighbours_are_mixed(rows):
    feed = open_feed(Harvest(rows), CONFIG, settings())
    first = next(feed.batches(0))[:, 0, 0]
    assert first.std() > 200 and (first.diff().abs() == 1).double().mean() < 0.2


def test_an_iterator_is_read_to_its_last_row(rows):
    feed = open_feed(iter(rows.split(500)), CONFIG, settings(steps=(N - 200) // 64))
    seen = numbers(feed.batches(0))
    assert len(seen.unique()) == len(seen) == (N - 200) // 64 * 64


def test_an_iterator_that_ends_too_early_says_so(rows):
    with pytest.raises(InterpError, match=r"used up after 59 of 60 steps.*cannot be started again"):
        train(iter(rows.split(500)), CONFIG, settings(steps=60))


def test_going_on_from_a_step_gives_the_same_batches(rows):
    whole = list(open_feed(Harvest(rows), CONFIG, settings(steps=80)).batches(0))
    went_on = list(open_feed(Harvest(rows), CONFIG, settings(steps=80)).batches(37))
    assert len(whole) == 80
    assert all(torch.equal(a, b) for a, b in zip(went_on, whole[37:], strict=True))


def test_bad_and_outlying_rows_are_counted_once_and_never_seen(rows):
    rows[[5, 3500], 1, 1] = torch.nan
    rows[[8, 3600, 3601]] *= 1e6
    feed = open_feed(Harvest(rows), CONFIG, settings(steps=200))
    seen = torch.cat(list(feed.batches(0)))
    assert seen.isfinite().all() and seen.abs().max() < 1e5
    assert feed.judged == (2, 3)


def test_many_bad_rows_late_in_a_stream_stop_it(rows):
    rows[3000:, 2] = torch.inf
    with pytest.raises(InterpError, match=r"500 of 500 hold NaN or infinite"):
        train(Harvest(rows), CONFIG, settings(steps=100))


def test_a_stream_trains_as_well_as_a_tensor():
    rows, recipe = planted_rows(N), settings(steps=300, lr=3e-3)
    shape = CrosscoderConfig(n_models=3, d_model=24, n_latents=60, k=4)
    by, all_at_once = (train_many(given, [(shape, recipe)])[0].held_out for given in (Harvest(rows), rows))
    assert min(by.fve) > 0.6
    assert by.fve == pytest.approx(all_at_once.fve, abs=0.05)
