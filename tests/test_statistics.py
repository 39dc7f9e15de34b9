import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from interp.statistics import (
    LEVEL,
    Bootstrap,
    Interval,
    Refused,
    can_pass,
    clopper_pearson,
    control_p,
    holm,
    problems_needed,
    sign_p,
)


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


def test_every_resample_draws_each_problem_equally_often_on_average():
    counts = Bootstrap(5, 4000, 0).counts
    np.testing.assert_allclose(counts.mean(0), np.ones(5), atol=0.06)


def test_the_first_problems_have_resamples_of_their_own_from_the_same_settings():
    whole = Bootstrap(9, 50, 3)
    assert whole.first(9) is whole
    assert np.array_equal(whole.first(4).counts, Bootstrap(4, 50, 3).counts)


def test_an_interval_leaves_two_and_a_half_percent_on_each_side():
    assert LEVEL == 0.95
    found = Bootstrap.interval(7.0, np.arange(1001.0))
    assert (found.estimate, found.low, found.high) == pytest.approx((7.0, 25.0, 975.0))


def test_a_difference_is_the_mean_over_problems_with_its_sign():
    values, bootstrap = np.array([1.0, 0.0, -0.5, 0.0]), Bootstrap(4, 3000, 0)
    found = bootstrap.difference(values)
    assert found.estimate == 0.125
    draws = bootstrap.counts.astype(float) @ values / 4
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    assert bootstrap.difference(values, within=1.0) == found, "the limit matters only where nothing changed"


@pytest.mark.parametrize("n", [1, 8, 96, 1024])
def test_no_change_of_any_problem_is_no_certainty(n):
    """None of n changed: a true share of changed problems up to 1 - .025^(1/n) would have gone unseen."""
    bootstrap, edge = Bootstrap(n, 100, 0), 1 - 0.025 ** (1 / n)
    found = bootstrap.difference(np.zeros(n), within=1.0)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.0, -edge, edge))
    assert bootstrap.difference(np.zeros(n), within=3.0).high == pytest.approx(3 * edge)
    assert bootstrap.difference(np.zeros(n)) == Interval(0.0, 0.0, 0.0), "nothing is known of how far one may change"


@pytest.mark.parametrize("n", [30, 64, 1024])
def test_few_changed_problems_are_no_more_certain_than_none(n):
    """One changed of 64 leaves the resamples within five points; none changed does not."""
    resampled, edge = Bootstrap(n, 400, 0), 1 - 0.025 ** (1 / n)
    for changed in (1, n):
        for sign in (1.0, -1.0):
            found = resampled.difference(np.r_[sign * np.ones(changed), np.zeros(n - changed)], within=1.0)
            near, far = sorted((abs(found.low - found.estimate), abs(found.high - found.estimate)))
            assert found.estimate == pytest.approx(sign * changed / n)
            assert (far if changed == n else near) >= edge - 1e-9
            assert -1 <= found.low <= found.high <= 1
    many = np.r_[np.ones(n // 2), np.zeros(n - n // 2)]
    if n == 1024:
        assert resampled.difference(many, within=1.0) == resampled.difference(many)


@pytest.mark.parametrize("n", [1, 8, 30, 1000])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_is_right_or_all_wrong_the_interval_is_clopper_and_pearsons(n, value):
    found = Bootstrap(n, 100, 0).mean(np.full(n, value))
    edge = 0.025 ** (1 / n)
    wanted = (1.0, edge, 1.0) if value else (0.0, 0.0, 1 - edge)
    assert (found.estimate, found.low, found.high) == pytest.approx(wanted)


def test_the_exact_interval_of_a_share_by_its_tails():
    """At the lower end k or more successes have probability 2.5 %, at the upper end k or fewer."""
    low, high = clopper_pearson(7, 40)
    assert low < 7 / 40 < high
    assert binom.sf(6, 40, low) == pytest.approx(0.025)
    assert binom.cdf(7, 40, high) == pytest.approx(0.025)


def test_a_mean_that_is_constant_but_no_share_has_no_width():
    assert Bootstrap(4, 100, 0).mean([0.5] * 4) == Interval(0.5, 0.5, 0.5)


def test_a_ratio_without_denominator_is_refused():
    bootstrap = Bootstrap(5, 200, 0)
    refused = bootstrap.ratio(np.zeros(5), np.zeros(5))
    assert isinstance(refused, Refused) and refused.refused
    assert refused.as_dict() == {"refused": refused.refused}


def test_a_ratio_is_of_sums_over_problems():
    top, bottom, bootstrap = np.array([1.0, 0.0, 6.0]), np.array([1.0, 4.0, 5.0]), Bootstrap(3, 3000, 0)
    found = bootstrap.ratio(top, bottom)
    assert isinstance(found, Interval)
    assert found.estimate == pytest.approx(0.7)
    draws = (bootstrap.counts @ top) / (bootstrap.counts @ bottom)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_resamples_without_denominator_are_left_out():
    found = Bootstrap(5, 2000, 0).ratio(np.array([1.0, 0, 0, 0, 0]), np.array([2.0, 0, 0, 0, 0]))
    assert isinstance(found, Interval)
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.as_dict() == {"estimate": 0.5, "low": 0.5, "high": 0.5}


def test_what_excludes_zero():
    assert Interval(1.0, 0.1, 2.0).excludes_zero()
    assert Interval(-1.0, -2.0, -0.1).excludes_zero()
    assert not Interval(0.0, -1.0, 1.0).excludes_zero()
    assert not Interval(0.0, 0.0, 0.0).excludes_zero()
    assert not Interval(0.5, 0.0, 1.0).excludes_zero(), "an interval holds its ends"
    assert not Interval(-0.5, -1.0, 0.0).excludes_zero()


FINITE = st.floats(-5, 5).map(lambda x: round(x, 3))


@given(effect=FINITE, controls=st.lists(FINITE, min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_p_against_controls_is_never_0_and_never_above_1(effect, controls):
    p, n = control_p(effect, controls), len(controls)
    assert 1 / (n + 1) - 1e-12 <= p <= 1
    assert control_p(sum(controls) / n, controls) == 1
    assert control_p(sum(controls) / n + 1000, controls) == pytest.approx(1 / (n + 1) if n > 1 else 1)
    assert control_p(-effect, [-c for c in controls]) == pytest.approx(p), "two-sided"
    assert control_p(effect + 7, [c + 7 for c in controls]) == pytest.approx(p), "wherever the draws lie"


def test_p_by_hand():
    """Of 2.5, 0, 1, 2, 3, -6 the mean is .4167: only -6 and 3 are as far from it as 2.5."""
    assert control_p(2.5, [0.0, 1.0, 2.0, 3.0, -6.0]) == pytest.approx(3 / 6)
    assert control_p(0.0, [0.0] * 20) == 1
    assert control_p(-1 / 1024, [0.0] * 39) == pytest.approx(1 / 40), "alone it knows nothing of the effect's own error"


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_p_is_exact_under_exchangeability(n):
    """Each of n + 1 values in turn is the effect: p at most k / (n + 1) in exactly k of the cases, for every k."""
    rng = np.random.default_rng(n)
    for _ in range(20):
        values = rng.normal(size=n + 1).tolist()
        ps = sorted(control_p(v, values[:i] + values[i + 1 :]) for i, v in enumerate(values))
        assert ps == pytest.approx([(k + 1) / (n + 1) for k in range(n + 1)])


def test_p_with_ties_is_never_too_small():
    """Whatever values of a small grid: p is at most k / 4 in at most k of the four cases."""
    for values in itertools.product((0.0, 1.0, 3.0), repeat=4):
        ps = [control_p(v, list(values[:i] + values[i + 1 :])) for i, v in enumerate(values)]
        assert all(sum(p <= k / 4 + 1e-9 for p in ps) <= k for k in range(1, 5))


def test_the_sign_of_an_effect_by_hand():
    assert sign_p(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert sign_p(np.array([-1.0] * 99)) == pytest.approx(2 / 100)
    assert sign_p(np.r_[np.ones(95), -np.ones(4)]) == pytest.approx(2 * 5 / 100)
    assert sign_p(np.zeros(9)) == 1.0


def test_one_changed_problem_of_many_is_not_told_from_none():
    """A third of the resamples leaves it out."""
    changed = np.r_[-1.0, np.zeros(1023)]
    assert sign_p(Bootstrap(1024, 2000, 0).sums(changed)) > 0.5
    assert sign_p(Bootstrap(1024, 2000, 0).sums(-changed)) > 0.5
    assert sign_p(Bootstrap(200, 2000, 0).sums(np.r_[-np.ones(20), np.zeros(180)])) < 0.002


def test_which_tests_a_number_of_draws_can_pass():
    assert can_pass(19, 1) and not can_pass(18, 1)
    assert can_pass(39, 2) and not can_pass(38, 2) and not can_pass(39, 3)
    assert can_pass(99, 5) and not can_pass(99, 6)
    for draws, tests in ((39, 2), (99, 5)):
        assert holm([1 / (draws + 1)] * tests)[0] == pytest.approx(0.05)


def study_of_controls(rng, n, draws, among, spread):
    """Paired losses of an edit and of its control draws, which share what each problem is like."""
    hard = rng.normal(0, 0.3, n)
    shift = rng.normal(0, spread, draws)
    effect = 0.1 + hard + rng.normal(0, 0.3, n)
    controls = 0.02 + shift[:, None] + hard[None, :among] + rng.normal(0, 0.3, (draws, among))
    return effect, controls


def covered(n, draws, among, spread, studies=400):
    """Shares of two-level and of one-level intervals that hold the true .08."""
    rng, both, one = np.random.default_rng(3), 0, 0
    for seed in range(studies):
        effect, controls = study_of_controls(rng, n, draws, among, spread)
        resampled = Bootstrap(n, 200, seed)
        both += inside(resampled.beyond(effect, controls, np.arange(among)), 0.08)
        one += inside(resampled.difference(effect - controls.mean()), 0.08)
    return both / studies, one / studies


@pytest.mark.parametrize(("n", "draws", "among"), [(128, 39, 128), (128, 39, 32)])
def test_the_two_level_interval_covers_the_truth(n, draws, among):
    """In 92 to 98 % of 400 simulated studies."""
    both, one = covered(n, draws, among, 0.1)
    assert 0.92 <= both <= 0.98, (both, one)


def test_with_few_draws_the_one_level_interval_covers_less():
    """Six draws on 12 problems, whose mean a single level takes for a constant."""
    both, one = covered(128, 6, 12, 0.1, 200)
    assert one < 0.65 and both > one + 0.15, (both, one)


def test_beyond_by_hand():
    effect, controls = np.array([1.0, 0.0, 1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 0.0]])
    resampled = Bootstrap(4, 2000, 0)
    found = resampled.beyond(effect, controls, np.array([1, 3]))
    assert found.estimate == pytest.approx(0.5 - 0.25)
    assert found.low < found.estimate < found.high
    one = resampled.control_draws(np.array([[1.0, 0.0]]), np.array([1, 3]))
    counts = resampled.counts.astype(float)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(one, counts[:, 1] / counts[:, [1, 3]].sum(1))
    assert np.isnan(one).any(), "some resamples hold none of the two problems"
    same = resampled.beyond(effect, effect[None], np.arange(4))
    assert (same.estimate, same.low, same.high) == pytest.approx((0, 0, 0)), "problems are resampled together"
    wide, edge = resampled.beyond(effect, effect[None], np.arange(4), within=1.0), clopper_pearson(0, 4)[1]
    assert (wide.low, wide.high) == pytest.approx((-edge, edge))
    halves = resampled.beyond(effect / 2, effect[None] / 2, np.arange(4), within=1.0)
    assert (halves.low, halves.high) == pytest.approx((0, 0)), "no whole multiples: nothing is known of its steps"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.01]) == [0.02, None, 0.02]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
@settings(max_examples=15, deadline=None)
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


def test_needed_problems_by_hand():
    """Half-width .5 at 100 problems, the estimate .25 from the bound: half as wide takes four times as many."""
    wide = Interval(0.25, -0.25, 0.75)
    assert problems_needed(wide, 100, 0.5) == 400
    assert problems_needed(wide, 100, 0.0) == 400
    assert problems_needed(wide, 100, 2.25) == 100, "never fewer than there are"


@pytest.mark.parametrize("gap", [0.0, 1e-6, 0.0049])
def test_no_number_of_problems_decides_an_estimate_at_the_bound(gap):
    assert problems_needed(Interval(0.05 + gap, gap, 0.1 + gap), 100, 0.05) is None
