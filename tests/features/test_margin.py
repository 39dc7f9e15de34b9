"""The decision as a number: tokens planted after two kinds of place, and log-odds against plain softmax in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.features.margin import CLEAR, RARE, Margin, PairMargin, margin_of

ids = st.lists(st.integers(0, 5), max_size=40)


def repeated(**counts):
    """Token ids, each so many times: `t7=3` is 7, 7, 7."""
    return [int(name[1:]) for name, n in counts.items() for _ in range(n)]


CASES = {
    "one each": (repeated(t1=10), repeated(t2=10), ((1,), (2,), 1.0, 1.0)),
    "two each, in order": (repeated(t3=6, t1=4), repeated(t9=5, t2=5), ((1, 3), (2, 9), 1.0, 1.0)),
    "on both sides, 4 times": (repeated(t1=60, t5=40), repeated(t2=90, t5=10), ((1, 5), (2,), 1.0, 0.9)),
    "on both sides, less": (repeated(t1=61, t5=39), repeated(t2=90, t5=10), ((1,), (2,), 0.61, 0.9)),
    "on both sides, the other's": (repeated(t1=90, t5=10), repeated(t2=60, t5=40), ((1,), (2, 5), 0.9, 1.0)),
    "shares and not numbers": (repeated(t1=10, t5=10), repeated(t2=900, t5=100), ((1, 5), (2,), 1.0, 0.9)),
    "one in a hundred": (repeated(t1=693, t7=7), repeated(t2=700), ((1, 7), (2,), 1.0, 1.0)),
    "rarer": (repeated(t1=694, t8=6), repeated(t2=700), ((1,), (2,), 694 / 700, 1.0)),
    "no positive place": ([], repeated(t2=3), None),
    "no negative place": (repeated(t1=3), [], None),
    "no place": ([], [], None),
    "no difference": (repeated(t5=3), repeated(t5=3), None),
    "no token of the negative side": (repeated(t1=50, t5=50), repeated(t5=100), None),
}


@pytest.mark.parametrize(("positive", "negative", "expected"), CASES.values(), ids=CASES)
def test_tokens_by_hand(positive, negative, expected):
    assert margin_of(iter(positive), iter(negative)) == (expected and Margin(*expected))


def test_the_thresholds_of_the_cases_above():
    assert (CLEAR, RARE) == (4, 0.01)


@given(ids, ids)
def test_sides_are_exchanged_with_their_places(positive, negative):
    found, turned = margin_of(positive, negative), margin_of(negative, positive)
    assert (found is None) == (turned is None)
    if found is not None and turned is not None:
        assert (found.positive, found.positive_share) == (turned.negative, turned.negative_share)
        assert (found.negative, found.negative_share) == (turned.positive, turned.positive_share)
        assert not set(found.positive) & set(found.negative)
        assert 0 < found.positive_share <= 1
        assert found == margin_of(positive[::-1] * 3, negative[::-1] * 2)


@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([0.1, 1.0, 30.0]))
def test_log_odds_and_probability_are_those_of_softmax(seed, rows, size):
    logits = size * torch.randn(rows, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    margin, p = Margin((3, 7), (0, 1, 11), 1.0, 1.0), logits.softmax(1)
    first, second = p[:, 3] + p[:, 7], p[:, 0] + p[:, 1] + p[:, 11]
    torch.testing.assert_close(margin.of(logits), (first / second).log(), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(margin.p(logits), first, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(margin.of(logits.float()).double(), margin.of(logits), atol=1e-4, rtol=1e-5)


def test_the_sign_and_the_unit():
    """Odds of 3 to 1 for the positive token are ln 3 nats, against it -ln 3; another token's logit does not count."""
    margin = Margin((0,), (1,), 1.0, 1.0)
    logits = torch.tensor([[math.log(3), 0.0, 5.0], [0.0, math.log(3), -5.0]])
    torch.testing.assert_close(margin.of(logits), torch.tensor([math.log(3), -math.log(3)]))
    assert margin.p(torch.tensor([[math.log(3), 0.0, -1e9]])).item() == pytest.approx(0.75)


def test_a_gradient_flows_through_the_margin():
    logits = torch.zeros(1, 4, requires_grad=True)
    Margin((0, 1), (2,), 1.0, 1.0).of(logits).sum().backward()
    assert logits.grad is not None and logits.grad.tolist() == [[0.5, 0.5, -1.0, 0.0]]


# Alternatives of each pair


@given(st.integers(0, 2**31), st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=2, unique=True), min_size=1))
def test_the_margin_of_a_pair_is_that_of_its_own_two_tokens(seed, tokens):
    logits, after = 3 * torch.randn(2, len(tokens), 12, generator=torch.Generator().manual_seed(seed)).double()
    margin = PairMargin(*(tuple(side) for side in zip(*tokens, strict=True)))
    for i, (first, second) in enumerate(tokens):
        alone, here = Margin((first,), (second,), 1.0, 1.0), slice(i, i + 1)
        for name in ("of", "p"):
            torch.testing.assert_close(getattr(margin, name)(logits)[here], getattr(alone, name)(logits[here]))
        torch.testing.assert_close(
            margin.harm(logits, after)[here], alone.harm(logits[here], after[here]), atol=1e-9, rtol=1e-9
        )
        assert margin.only([j == i for j in range(len(tokens))]) == PairMargin((first,), (second,))


def test_harm_is_of_what_is_no_onset():
    """The onset's own probability falls from .5 to .1 and does not count; the others go from 1 : 1 to 3 : 1."""
    before, after = (torch.tensor([p]).log() for p in ([0.5, 0.25, 0.25], [0.1, 0.675, 0.225]))
    wanted = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    for margin in (Margin((0,), (1,), 1.0, 1.0), PairMargin((0,), (1,))):
        assert margin.harm(before, after).item() == pytest.approx(wanted, abs=1e-6)
        assert margin.harm(before, before).item() == 0.0
