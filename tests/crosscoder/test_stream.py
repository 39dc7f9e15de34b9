"""Training on rows that pass by."""

import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, train, train_many
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.rows import TensorRows
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


class Once:
    """Starts again, and has nothing more to give: what a loader over a generator does."""

    def __init__(self, rows, later=()):
        self.rows, self.later = rows, list(later)

    def __iter__(self):
        given, self.rows = self.rows.split(500), torch.zeros(0, 3, 8)
        return iter([*given] if len(given[0]) else self.later)


@pytest.mark.parametrize("later", [[], [torch.zeros(0, 3, 8)], [torch.full((50, 3, 8), torch.nan)]])
def test_an_iterable_that_gives_nothing_when_started_again_says_so(rows, later):
    feed = open_feed(Once(rows, later), CONFIG, settings(steps=500))
    with pytest.raises(InterpError, match="too few or none when it was started again; give an object whose __iter__"):
        list(feed.batches(0))


def test_an_iterator_cannot_feed_twice(rows):
    feed = open_feed(iter(rows.split(500)), CONFIG, settings())
    assert len(list(feed.batches(0))) == 20
    with pytest.raises(InterpError, match="started again"):
        next(feed.batches(0))


def test_pieces_of_two_types_are_refused(rows):
    with pytest.raises(InterpError, match=r"pieces of torch.float32 and of torch.bfloat16; give one type"):
        open_feed([rows[:500], rows[500:900].bfloat16()], CONFIG, settings())


def composition(batches, n_kinds=3):
    """Rows of each kind in each batch, [batches, kinds]; a row's kind is in its first coordinate."""
    return torch.stack([torch.bincount(batch[:, 0, 0].float().round().long(), minlength=n_kinds) for batch in batches])


def of_three_kinds(sizes, texts, seed=0):
    """Rows of texts of one kind each, in random order of the texts; the kinds have these sizes."""
    kind = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes) // texts)
    order = torch.randperm(len(kind), generator=torch.Generator().manual_seed(seed))
    rows = 0.1 * random_rows(len(kind) * texts)
    rows[:, 0, 0] = kind[order].repeat_interleave(texts).float()
    return rows


class Shards(TensorRows):
    """Rows in many shards."""

    @property
    def shard_ends(self):
        return list(range(500, len(self) + 1, 500))


@pytest.mark.parametrize("as_shards", [True, False], ids=["shards", "stream"])
def test_of_shuffled_texts_every_batch_is_composed_like_the_whole(as_shards):
    """With many shards, or a buffer much smaller than the data, counts by kind vary as in draws of whole texts."""
    rows = of_three_kinds([9000, 6000, 3000], texts=10)
    recipe = settings(steps=200, batch_size=100, shuffle_rows=2000)
    given = Shards(rows) if as_shards else list(rows.split(130))
    counts = composition(list(open_feed(given, CONFIG, recipe).batches(0))).double()
    share = torch.tensor([1 / 2, 1 / 3, 1 / 6], dtype=torch.double)
    torch.testing.assert_close(counts.mean(0) / 100, share, atol=0.01, rtol=0)
    as_drawn = (100 * share * (1 - share)).sqrt()
    # A buffer of 2,000 rows is itself a draw of 200 texts, which adds (100 / 2000) * 10 to the variance: a factor 1.5.
    assert (counts.std(0) < 1.4 * as_drawn).all() and (counts.std(0) > 0.7 * as_drawn).all()


def test_the_engine_does_not_mix_further_than_its_buffer():
    """So texts are shuffled before they come here: of sorted ones a batch holds one kind."""
    rows = of_three_kinds([6000, 6000, 6000], texts=10)
    rows = rows[rows[:, 0, 0].argsort(stable=True)]
    counts = composition(list(open_feed(list(rows.split(130)), CONFIG, settings(steps=20)).batches(0)))
    assert (counts[:, 0] == 64).all()
