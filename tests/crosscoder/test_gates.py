import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import gates
from interp.crosscoder.encoder import Dense

from .reference import best_places, top_mask

LARGE = (120, 300)


@pytest.fixture(autouse=True)
def _sampled(monkeypatch):
    """So few scores are looked at that the guessed floor is in play on the large batches here."""
    monkeypatch.setattr(gates, "SAMPLE", 4000)


def batch_topk(scores, n, norms=None):
    """The mask of the chosen places, which must rise."""
    norms = torch.ones(scores.shape[1]) if norms is None else norms
    places, values = gates.batch_topk(Dense(scores), norms, n)
    assert torch.equal(places, places.unique())
    assert torch.equal(values, scores.flatten()[places].float())
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[places] = True
    return mask.view(scores.shape)


@pytest.mark.parametrize("n", [1, 500, 3000, 17_000, 40_000])
@pytest.mark.parametrize("share_positive", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_n_best_scores_of_a_large_batch(n, share_positive, dtype):
    generator = torch.Generator().manual_seed(n)
    pre = (torch.rand(*LARGE, generator=generator) + share_positive - 1).to(dtype)
    norms = torch.rand(LARGE[1], generator=generator) + 0.1
    norms[7] = 0.0  # a latent without a decoder scores nothing
    assert torch.equal(batch_topk(pre, n, norms), top_mask(pre.float() * norms, n) | _zero_scored(pre, norms, n))


def _zero_scored(pre, norms, n):
    """Where fewer than n scores are positive all positive pre-activations are chosen, whatever their norm."""
    if int((pre > 0).sum()) <= n:
        return (pre > 0) & (norms == 0)
    return torch.zeros(pre.shape, dtype=torch.bool)


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=12, max_size=12),
    n=st.integers(1, 15),
)
def test_any_small_batch_with_ties(values, n):
    scores = torch.tensor(values).view(3, 4)
    mask = batch_topk(scores, n)
    assert torch.equal(mask, top_mask(scores, n))
    assert int(mask.sum()) == min(n, int((scores > 0).sum()))


@given(levels=st.integers(1, 5), n=st.integers(1, 2000), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_any_large_batch_with_ties(levels, n, seed):
    scores = torch.randint(0, levels + 1, LARGE, generator=torch.Generator().manual_seed(seed)).float()
    assert torch.equal(batch_topk(scores, n), top_mask(scores, n))


def test_ties_go_to_the_first_in_reading_order():
    scores = torch.tensor([[1.0, 3.0, 1.0], [1.0, 2.0, 1.0]])
    assert batch_topk(scores, 4).tolist() == [[True, True, True], [False, True, False]]


def test_a_sample_that_misleads_costs_no_exactness():
    scores = torch.rand(*LARGE, generator=torch.Generator().manual_seed(0))
    stride = scores.numel() // gates.SAMPLE
    scores.view(-1)[:: stride + 1 - stride % 2] += 10  # the sample sees nothing but the very best
    n = 8000
    assert torch.equal(batch_topk(scores, n), top_mask(scores, n))


@pytest.mark.parametrize("shape", [(4, 5), LARGE])
def test_nothing_is_kept_of_an_all_zero_batch(shape):
    assert not batch_topk(torch.zeros(shape), 7).any()


@pytest.mark.parametrize("shape", [(4, 5), LARGE])
def test_a_shortage_keeps_all_positive_scores_and_no_other(shape):
    scores = -torch.ones(shape)
    scores[1, 2], scores[3, 0] = 0.5, 1e-30
    assert batch_topk(scores, 7).nonzero().tolist() == [[1, 2], [3, 0]]


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0]), min_size=20, max_size=20, unique=False),
    k=st.integers(1, 7),
)
def test_topk_takes_each_rows_best_positive_ones(values, k):
    pre, norms = torch.tensor(values).view(4, 5), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    places = gates.topk(pre, norms, k)
    assert torch.equal(places, places.unique())
    for row in range(4):
        chosen = places[places // 5 == row] % 5
        wanted = best_places(pre[row] * norms, k)
        scores = (pre * norms)[row]
        assert sorted(scores[chosen].tolist()) == sorted(scores[sorted(wanted)].tolist())  # ties may go either way


def test_above_is_strict_and_each_latents_own():
    pre = torch.tensor([[0.5, 0.5, -0.1], [0.6, 0.4, 0.0]])
    assert gates.above(pre, torch.tensor([0.5, 0.4, -1.0])).tolist() == [1, 2, 3, 5]
    assert gates.above(pre, 0.0).tolist() == [0, 1, 3, 4]
