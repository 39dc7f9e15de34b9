import numpy as np
import pytest

from interp.statistics import Interval, Refused
from interp.trials.claims import Claim, read
from interp.trials.crossed import Crossed


def claim(relation, bound=None):
    return Claim("it is so", "someone", "a", "b", relation, bound=bound)


@pytest.mark.parametrize(
    ("relation", "interval", "reading"),
    [
        ("more", (0.2, 0.1, 0.3), "holds"),
        ("more", (0.0, -0.02, 0.02), "does not hold"),
        ("more", (-0.3, -0.4, -0.2), "does not hold"),
        ("more", (0.1, 0.0, 0.2), "undecided (needs about 1,000 problems)"),
        ("same", (0.0, -0.02, 0.02), "holds"),
        ("same", (0.2, 0.1, 0.3), "does not hold"),
        ("same", (-0.2, -0.3, -0.1), "does not hold"),
        ("same", (-0.025, -0.075, 0.025), "undecided (needs about 1,000 problems)"),
    ],
)
def test_readings(relation, interval, reading):
    n = 250
    effect = Interval(*interval)
    assert read(claim(relation), effect, effect, 0.5, n, 0.05) == reading


def test_where_only_the_seeds_leave_it_open_more_problems_are_not_asked_for():
    wide, narrow = Interval(0.1, 0.0, 0.2), Interval(0.1, 0.08, 0.12)
    assert read(claim("more"), wide, narrow, 0.5, 250, 0.05) == "undecided (the seeds differ: more seeds are needed)"


def test_a_claims_own_bound_goes_before_the_studys():
    effect = Interval(0.2, 0.1, 0.3)
    assert read(claim("more", bound=0.5), effect, effect, 0.5, 100, 0.05) == "does not hold"


def test_where_there_is_no_room_nothing_fails():
    effect = Interval(0.0, -0.01, 0.01)
    assert read(claim("more"), effect, effect, 0.97, 100, 0.05) == "undecided (at 0.970 b is at the ceiling)"
    assert read(claim("same"), effect, effect, 0.97, 100, 0.05) == "holds"
    worse = Interval(-0.06, -0.11, -0.02)
    assert read(claim("more"), worse, worse, 0.97, 100, 0.05) == "does not hold"


def test_with_one_seed_the_interval_is_over_problems_alone():
    rng = np.random.default_rng(0)
    top, ones = (rng.random((1, 400)) < 0.3).astype(float), np.ones((1, 400))
    value = Crossed.of(1, 400, 4000).value((top, ones))
    se = np.sqrt(0.3 * 0.7 / 400)
    assert value.high - value.low == pytest.approx(2 * 1.96 * se, rel=0.1)
    assert value.estimate == top.mean()


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    ones = np.ones((3, 400))
    alike = (rng.random((3, 400)) < 0.5).astype(float)
    apart = (rng.random((3, 400)) < np.array([[0.3], [0.5], [0.7]])).astype(float)
    crossed = Crossed.of(3, 400, 4000)
    narrow, wide = crossed.value((alike, ones)), crossed.value((apart, ones))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    fixed = crossed.of_these_seeds().value((apart, ones))
    assert fixed.estimate == wide.estimate
    assert fixed.high - fixed.low < wide.high - wide.low


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    hard = rng.random((1, 300))
    first, second = (hard < 0.5).astype(float), (hard < 0.45).astype(float)
    ones = np.ones((1, 300))
    crossed = Crossed.of(1, 300, 4000)
    difference = crossed.difference((first, ones), (second, ones))
    assert difference.estimate == pytest.approx((first - second).mean())
    assert difference.high - difference.low < 0.06


def test_ratios_are_of_sums_and_nothing_is_divided_by_nothing():
    top, bottom = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 2.0], [4.0, 4.0]])
    crossed = Crossed.of(2, 2, 500)
    assert crossed.value((top, bottom)).estimate == pytest.approx(10 / 12)
    assert isinstance(crossed.value((top, 0 * bottom)), Refused)
