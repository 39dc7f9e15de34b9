import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.crosscoder import selection
from interp.crosscoder.selection import batch_topk_mask

from .reference import top_mask

LARGE = (120, 300)  # more scores than selection._SMALL, so that the sampled floor is in play


@pytest.mark.parametrize("n", [1, 500, 3000, 17_000])
@pytest.mark.parametrize("share_positive", [0.02, 0.5, 1.0])
def test_the_n_best_of_a_large_batch(n, share_positive):
    generator = torch.Generator().manual_seed(n)
    scores = torch.rand(*LARGE, generator=generator) + share_positive - 1
    assert scores.numel() > selection._SMALL
    assert torch.equal(batch_topk_mask(scores, n), top_mask(scores, n))


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=12, max_size=12),
    n=st.integers(1, 15),
)
def test_any_small_batch_with_ties(values, n):
    scores = torch.tensor(values).view(3, 4)
    mask = batch_topk_mask(scores, n)
    assert torch.equal(mask, top_mask(scores, n))
    assert int(mask.sum()) == min(n, int((scores > 0).sum()))


@given(levels=st.integers(1, 5), n=st.integers(1, 2000), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_any_large_batch_with_ties(levels, n, seed):
    scores = torch.randint(0, levels + 1, LARGE, generator=torch.Generator().manual_seed(seed)).float()
    assert torch.equal(batch_topk_mask(scores, n), top_mask(scores, n))


def test_ties_go_to_the_first_in_reading_order():
    scores = torch.tensor([[1.0, 3.0, 1.0], [1.0, 2.0, 1.0]])
    assert batch_topk_mask(scores, 4).tolist() == [[True, True, True], [False, True, False]]


def test_a_sample_that_misleads_costs_no_exactness():
    scores = torch.rand(*LARGE, generator=torch.Generator().manual_seed(0))
    scores.view(-1)[:: selection._STRIDE] += 10  # the sample sees nothing but the very best
    n = 8000
    assert torch.equal(batch_topk_mask(scores, n), top_mask(scores, n))


@pytest.mark.parametrize("shape", [(4, 5), LARGE])
def test_nothing_is_kept_of_an_all_zero_batch(shape):
    assert not batch_topk_mask(torch.zeros(shape), 7).any()


@pytest.mark.parametrize("shape", [(4, 5), LARGE])
def test_a_shortage_keeps_all_positive_scores_and_no_other(shape):
    scores = -torch.ones(shape)
    scores[1, 2], scores[3, 0] = 0.5, 1e-30
    mask = batch_topk_mask(scores, 7)
    assert mask.nonzero().tolist() == [[1, 2], [3, 0]]
