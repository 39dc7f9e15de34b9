import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder.feeds import Order
from interp.crosscoder.rows import n_held_out, seeded


@st.composite
def orders(draw):
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=7).filter(sum))
    ends = torch.tensor(lengths).cumsum(0)
    kept = draw(st.sets(st.integers(0, int(ends[-1]) - 1), min_size=1))
    return Order(torch.tensor(sorted(kept)), ends.tolist(), draw(st.integers(1, 40)), draw(st.integers(0, 99)))


@given(order=orders(), batch_size=st.integers(1, 50), steps=st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_every_row_is_seen_once_an_epoch(order, batch_size, steps):
    n, seen = len(order.places), torch.zeros(int(order.places[-1]) + 1, dtype=torch.long)
    for step, batch in enumerate(order.batches(batch_size, 0, steps), 1):
        assert len(batch) == batch_size and torch.equal(batch, batch.sort().values)
        seen += torch.bincount(batch, minlength=len(seen))
        epochs, more = divmod(step * batch_size, n)
        counts = seen[order.places]
        assert counts.min() >= epochs and int((counts - epochs).sum()) == more and counts.max() <= epochs + 1
    assert step == steps
    assert int(seen.sum()) == int(seen[order.places].sum()), "a row that was left out came"


@given(order=orders(), batch_size=st.integers(1, 50), start=st.integers(0, 30))
@settings(max_examples=80, deadline=None)
def test_going_on_from_any_step_gives_the_same_batches(order, batch_size, start):
    whole = list(order.batches(batch_size, 0, 34))
    for went_on, wanted in zip(order.batches(batch_size, start, 34), whole[start:], strict=True):
        assert torch.equal(went_on, wanted)


def test_epochs_and_seeds_differ_in_order():
    one, other = (Order(torch.arange(1000), [1000], 10_000, seed) for seed in (0, 1))
    first = list(one.batches(500, 0, 4))
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], next(other.batches(500, 0, 1)))


def test_no_more_than_a_group_of_shards_is_read_from_at_a_time():
    """Shards of 100 rows in groups of 250: every 300 rows in turn come from three shards."""
    order = Order(torch.arange(3000), list(range(100, 3001, 100)), 250, 0)
    touched = [set((batch // 100).tolist()) for batch in order.batches(300, 0, 10)]
    assert all(len(shards) == 3 for shards in touched)
    assert set.union(*touched) == set(range(30))
    assert any(max(shards) - min(shards) > 3 for shards in touched), "neighbouring shards only"


@pytest.mark.parametrize(("n", "wanted"), [(5, 1), (100, 20), (20_000, 2048), (100_000, 5000)])
def test_how_many_rows_are_held_out(n, wanted):
    assert n_held_out(n) == wanted


def test_a_generator_follows_all_of_its_parts():
    draws = {int(torch.randint(1 << 60, (), generator=seeded(*p))) for p in [("a", 1), ("a", 2), ("b", 1), ("a", 1, 0)]}
    assert len(draws) == 4
    assert torch.equal(torch.rand(3, generator=seeded("a", 1)), torch.rand(3, generator=seeded("a", 1)))
