"""The split into training and held-out rows, where it is given: by problem, say."""

import pytest
import torch

from interp.crosscoder import TrainConfig, rows, train_many
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.rows import TensorRows, split
from interp.errors import InterpError

from .samples import CONFIG, random_rows

N = 4000
SETTINGS = TrainConfig(steps=150, batch_size=64, shuffle_rows=1000, log_every=50)
PROBLEM = torch.arange(N) // 40 % 50
"""80 rows of each of 50 problems, in two places."""
HELD_OUT = PROBLEM % 10 == 3


@pytest.fixture
def numbered():
    """Rows that carry their number, with three outliers among the held-out ones."""
    x = random_rows(N)
    x[:, 0, 0] = torch.arange(N) / 100
    x[[120, 121, 2125]] *= 1e4
    return x


def numbers(pieces):
    return (torch.cat([piece[:, 0, 0] for piece in pieces]).float() * 100).round().long()


def feeds(x):
    pieces = list(zip(x.split(170), HELD_OUT.split(170), strict=True))
    return [open_feed(TensorRows(x, HELD_OUT), CONFIG, SETTINGS), open_feed(pieces, CONFIG, SETTINGS)]


@pytest.mark.parametrize("which", [0, 1], ids=["indexed", "streamed"])
def test_no_row_of_a_held_out_problem_is_ever_in_a_batch(numbered, which):
    feed = feeds(numbered)[which]
    seen, measured = numbers(feed.batches(0)), numbers(feed.held_out(100))
    assert len(seen) == 150 * 64
    assert not set(PROBLEM[seen].tolist()) & {3, 13, 23, 33, 43}
    assert set(PROBLEM[seen].tolist()) == set(range(50)) - {3, 13, 23, 33, 43}
    assert HELD_OUT[measured].all() and len(measured) == feed.n_held_out


def test_all_held_out_rows_are_measured_on_but_bad_ones(numbered):
    indexed, streamed = feeds(numbered)
    good = HELD_OUT.clone()
    good[[120, 121, 2125]] = False
    assert numbers(indexed.held_out(100)).tolist() == good.nonzero().squeeze(1).tolist()
    assert numbers(streamed.held_out(100)).tolist() == good[:1000].nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("which", [0, 1], ids=["indexed", "streamed"])
def test_too_many_to_measure_on_are_still_never_trained_on(numbered, which, monkeypatch):
    monkeypatch.setattr(rows, "HELD_OUT_MOST", 30)
    feed = feeds(numbered)[which]
    measured = numbers(feed.held_out(100))
    assert len(measured.unique()) == feed.n_held_out == 30
    assert HELD_OUT[measured].all() and torch.equal(measured, measured.sort().values)
    assert not HELD_OUT[numbers(feed.batches(0))].any()
    again = numbers(feeds(numbered)[which].held_out(100))
    other = open_feed(TensorRows(numbered, HELD_OUT), CONFIG, SETTINGS.model_copy(update={"data_seed": 1}))
    assert torch.equal(measured, again) and not torch.equal(measured, numbers(other.held_out(100)))


def test_without_a_split_the_number_is_capped_too(monkeypatch):
    monkeypatch.setattr(rows, "HELD_OUT_MOST", 30)
    held_out, train = split(torch.ones(1000, dtype=torch.bool), None, 0)
    assert len(held_out) == 30 and len(train) == 970
    assert torch.equal(torch.cat([held_out, train]).sort().values, torch.arange(1000))


def test_training_and_measuring_keep_apart(numbered):
    """What training makes of the rows does not change with the held-out ones, but their own numbers do."""
    other = numbered.clone()
    other[HELD_OUT] = 0.7 * other[HELD_OUT].flip(0)
    one, two = (train_many(TensorRows(x, HELD_OUT), [(CONFIG, SETTINGS)])[0] for x in (numbered, other))
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale"):
        assert torch.equal(getattr(one.crosscoder, name), getattr(two.crosscoder, name)), name
    assert one.crosscoder.threshold != two.crosscoder.threshold and one.held_out.fve != two.held_out.fve
    assert one.held_out.n_rows == 397


@pytest.mark.parametrize("problems", [torch.zeros(N, dtype=torch.bool), torch.ones(N, dtype=torch.bool)])
def test_a_split_with_nothing_on_one_side_is_refused(problems):
    with pytest.raises(InterpError, match=r"the given split leaves \d+ rows to train on and \d+ held out; give"):
        open_feed(TensorRows(random_rows(N), problems), CONFIG, SETTINGS)
    with pytest.raises(InterpError, match=r"the given split leaves"):
        open_feed([(random_rows(N), problems)], CONFIG, SETTINGS)


@pytest.mark.parametrize("mask", [torch.zeros(3, dtype=torch.bool), torch.zeros(50)])
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(InterpError, match=r"mask of held-out rows is .* not bool \[50\]"):
        open_feed([(random_rows(50), mask)], CONFIG, SETTINGS)


def test_the_split_is_part_of_the_data(numbered):
    other = HELD_OUT.clone()
    other[0] = True
    found = {TensorRows(numbered, mask).fingerprint() for mask in (None, HELD_OUT, other)}
    assert len(found) == 3


def test_five_rows_are_the_fewest_of_which_one_can_be_held_out():
    held_out, train = split(torch.ones(5, dtype=torch.bool), None, 0)
    assert (len(held_out), len(train)) == (1, 4)
    with pytest.raises(InterpError, match="4"):
        split(torch.ones(4, dtype=torch.bool), None, 0)
