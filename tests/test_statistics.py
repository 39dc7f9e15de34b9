import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from interp.statistics import Bootstrap, Interval, Refused, as_json, control_p, holm, problems_needed


def inside(interval, truth):
    return interval.low <= truth <= interval.high


def test_nineteen_of_twenty_intervals_hold_the_truth():
    """Means, paired differences and ratios of sums, 500 samples of 200 problems of each."""
    n, rng, bootstrap = 200, np.random.default_rng(0), Bootstrap(200, 1000, 1)
    hits = np.zeros(3)
    for _ in range(500):
        correct = rng.random(n) < 0.7
        edited = np.where(rng.random(n) < 0.3, rng.random(n) < 0.5, correct)
        length = rng.integers(10, 80, n).astype(float)
        markers = rng.poisson(length * 0.05)
        ratio = bootstrap.ratio(100.0 * markers, length)
        assert isinstance(ratio, Interval)
        hits += [
            inside(bootstrap.mean(correct.astype(float)), 0.7),
            inside(bootstrap.difference(correct - edited.astype(float)), 0.7 - (0.7 * 0.7 + 0.3 * 0.5)),
            inside(ratio, 5.0),
        ]
    # 95 % of 500 has a standard error of 1 %; percentile intervals lose about one point at this size.
    assert (hits / 500 > 0.915).all() and (hits / 500 < 0.98).all(), hits / 500


def test_a_mean_is_the_mean_of_resampled_problems():
    values = np.array([0.0, 1.0, 4.0, 9.0])
    bootstrap = Bootstrap(4, 3000, 0)
    assert bootstrap.counts.sum(1).tolist() == [4] * 3000
    np.testing.assert_allclose(bootstrap.sums(values), bootstrap.counts.astype(float) @ values)
    found = bootstrap.mean(values)
    assert found.estimate == values.mean()
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(bootstrap.sums(values) / 4, [0.025, 0.975])))


def test_the_same_seed_draws_the_same_resamples():
    assert np.array_equal(Bootstrap(9, 50, 3).counts, Bootstrap(9, 50, 3).counts)
    assert not np.array_equal(Bootstrap(9, 50, 3).counts, Bootstrap(9, 50, 4).counts)


@pytest.mark.parametrize("n", [1, 8, 30, 1000])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_is_right_or_all_wrong_the_interval_is_clopper_and_pearsons(n, value):
    found = Bootstrap(n, 100, 0).mean(np.full(n, value))
    exact = binomtest(int(n * value), n).proportion_ci(0.95, "exact")
    assert (found.estimate, found.low, found.high) == pytest.approx((value, exact.low, exact.high))


def test_a_ratio_without_denominator_is_refused():
    bootstrap = Bootstrap(5, 200, 0)
    refused = bootstrap.ratio(np.zeros(5), np.zeros(5))
    assert isinstance(refused, Refused) and refused.refused
    assert as_json(refused) == {"refused": refused.refused}


def test_resamples_without_denominator_are_left_out():
    found = Bootstrap(5, 2000, 0).ratio(np.array([1.0, 0, 0, 0, 0]), np.array([2.0, 0, 0, 0, 0]))
    assert isinstance(found, Interval)
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)
    assert as_json(found) == {"estimate": 0.5, "low": 0.5, "high": 0.5}


def test_what_excludes_zero():
    assert Interval(1.0, 0.1, 2.0).excludes_zero()
    assert Interval(-1.0, -2.0, -0.1).excludes_zero()
    assert not Interval(0.0, -1.0, 1.0).excludes_zero()
    assert not Interval(0.0, 0.0, 0.0).excludes_zero()


FINITE = st.floats(-5, 5).map(lambda x: round(x, 3))


@given(effect=FINITE, controls=st.lists(FINITE, min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_p_against_controls_is_never_0_and_never_above_1(effect, controls):
    p, n = control_p(effect, controls), len(controls)
    assert 1 / (n + 1) - 1e-12 <= p <= 1
    centre = sum(controls) / n
    assert control_p(centre, controls) == 1
    assert control_p(centre + 100, controls) == pytest.approx(1 / (n + 1))
    assert control_p(2 * centre - effect, controls) == pytest.approx(p), "two-sided about the mean"


def test_p_by_hand():
    assert control_p(2.5, [0.0, 1.0, 2.0, 3.0, -6.0]) == pytest.approx((1 + 2) / 6)  # |3|, |-6| are as far as 2.5
    assert control_p(0.0, [0.0] * 20) == 1


def test_p_is_uniform_where_the_effect_is_one_of_the_controls():
    rng = np.random.default_rng(0)
    ps = [control_p(x[0], x[1:]) for x in rng.normal(size=(4000, 21)).tolist()]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(ps) <= level) == pytest.approx(level, abs=0.03)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.01]) == [0.02, None, 0.02]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
@settings(max_examples=100, deadline=None)
def test_holm_is_monotone_and_counts_only_what_is_there(ps):
    adjusted = holm(ps)
    there = [(p, a) for p, a in zip(ps, adjusted, strict=True) if p is not None]
    assert [a is None for a in adjusted] == [p is None for p in ps]
    for p, a in there:
        assert a is not None and p <= a <= 1
        assert a <= min(1, len(there) * p) + 1e-12, "never above Bonferroni"
    in_order = [a for _, a in sorted(there)]
    assert in_order == sorted(in_order)
    assert holm([p for p, _ in there]) == [a for _, a in there]
    if there:
        assert min(in_order) == pytest.approx(min(1, len(there) * min(p for p, _ in there)))


@given(gap=st.floats(0.001, 0.2), half=st.floats(0.01, 0.3), n=st.integers(8, 5000))
@settings(max_examples=60, deadline=None)
def test_that_many_problems_would_decide(gap, half, n):
    bound = 0.05
    assume(gap > 0.11 * half)
    interval = Interval(bound + gap, bound + gap - half, bound + gap + half)
    needed = problems_needed(interval, n, bound)
    assert needed is not None and needed >= n
    assert half * math.sqrt(n / needed) <= gap * (1 + 1e-9) or needed == n
    if needed > n:
        assert half * math.sqrt(n / (needed - 1)) > gap * (1 - 1e-6)


@pytest.mark.parametrize("gap", [0.0, 1e-6, 0.0049])
def test_no_number_decides_what_lies_at_the_bound(gap):
    assert problems_needed(Interval(0.05 + gap, gap, 0.1 + gap), 100, 0.05) is None
