import json

import numpy as np
import pytest

from interp.causal.verdict import BOTH, FUNCTION, STYLE, Arm, as_json, conclude, losses, mediated_fraction, read
from interp.names import OUTCOMES
from interp.statistics import Bootstrap, Interval, Refused
from interp.traces.measure import Outcomes

N, BOUND = 1000, 0.05


def outcomes(correct):
    correct = np.asarray(correct, dtype=np.float64)
    ones = np.ones(len(correct))
    return Outcomes({name: (correct if name == "accuracy" else ones, ones) for name in OUTCOMES})


def run(accuracy, n=N, flip=0):
    """The first share `accuracy` of n is right, but for `flip` of them, for which as many wrong ones are right."""
    correct = np.arange(n) < round(accuracy * n)
    correct[:flip] = False
    correct[n - flip :] = flip > 0
    return outcomes(correct)


BASE, DISTILLED = run(0.4), run(0.8)


def arm(accuracy):
    return Arm(run(accuracy, flip=10), [DISTILLED] * 3)


@pytest.fixture(scope="module")
def bootstrap():
    return Bootstrap(N, 2000, 0)


def test_losses_are_of_problems_and_controls_are_compared_on_their_own_problems():
    edited = outcomes([1, 0, 0, 1, 1, 0])
    untouched = outcomes([1, 1, 1, 1, 0, 0])
    controls = [outcomes([0, 1, 1]), outcomes([1, 1, 0]), outcomes([0, 0, 1])]
    loss, control = losses(Arm(edited, controls), untouched)
    assert loss.tolist() == [0, 1, 1, 0, -1, 0]
    assert control == pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)
    assert losses(Arm(edited, []), untouched)[1] == 0.0


@pytest.mark.parametrize(
    ("style", "function", "verdict"),
    [
        (0.80, 0.80, "decorative"),
        (0.80, 0.60, "functional"),
        (0.60, 0.80, "stylistic"),
        (0.60, 0.60, "stylistic"),
        (0.75, 0.60, "undetermined"),
        (0.80, 0.75, "undetermined"),
        (0.75, 0.75, "undetermined"),
    ],
)
def test_the_reading_table(bootstrap, style, function, verdict):
    arms = {STYLE: arm(style), FUNCTION: arm(function), BOTH: arm(0.5)}
    found = conclude(DISTILLED, BASE, arms, BOUND, bootstrap)
    assert found.verdict == verdict
    opened = [r.needed for r in found.arms.values() if r.reading == "undetermined"]
    assert all(n is None or n >= N for n in opened)
    if verdict == "undetermined":
        deciding = found.arms[STYLE] if found.arms[STYLE].reading == "undetermined" else found.arms[FUNCTION]
        assert str(deciding.needed) in found.why


def test_a_loss_that_the_controls_share_is_no_drop(bootstrap):
    """Any ban of words costs .3 here: nothing is special to the markers."""
    reading = read(Arm(run(0.5, flip=5), [run(0.5)] * 3), DISTILLED, BOUND, bootstrap)
    assert reading.control_drop == pytest.approx(0.3)
    assert reading.drop.estimate == pytest.approx(0.0)
    assert reading.reading == "no drop"


def test_an_open_reading_names_the_problems_that_would_close_it(bootstrap):
    reading = read(arm(0.758), DISTILLED, BOUND, bootstrap)
    assert reading.reading == "undetermined"
    half = (reading.drop.high - reading.drop.low) / 2
    assert reading.needed == pytest.approx(N * (half / 0.008) ** 2, rel=0.02)
    scaled = half * (N / reading.needed) ** 0.5
    assert scaled == pytest.approx(0.008, rel=0.02)


def test_too_few_problems_never_say_no_drop():
    """Protocol: a run with too few problems to detect 5 points says so instead of printing "no effect". None of 8
    problems changed is compatible with a true loss of 37 points (1 - .025^(1/8))."""
    few = Bootstrap(8, 1000, 0)
    untouched = outcomes([1, 1, 1, 1, 1, 0, 0, 0])
    assert read(Arm(untouched, []), untouched, BOUND, few).reading == "undetermined"


def test_the_mediated_fraction_by_hand(bootstrap):
    """Drop .3, controls' drop .1, gain .4: half of the gain."""
    gain, share = mediated_fraction(Arm(run(0.5), [run(0.7), run(0.7)]), DISTILLED, BASE, bootstrap)
    assert isinstance(gain, Interval) and isinstance(share, Interval)
    assert gain.estimate == pytest.approx(0.4)
    assert share.estimate == pytest.approx(0.5)
    assert share.low < 0.5 < share.high
    assert 0.05 < share.high - share.low < 0.25


def test_the_fraction_is_one_where_everything_gained_is_lost(bootstrap):
    _, share = mediated_fraction(Arm(BASE, []), DISTILLED, BASE, bootstrap)
    assert isinstance(share, Interval)
    assert (share.estimate, share.low, share.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(("base", "why"), [(0.80, "may be 0"), (0.9, "worse")])
def test_without_a_gain_there_is_no_fraction_and_no_reading(bootstrap, base, why):
    untouched = run(0.8, flip=30)
    found = conclude(untouched, run(base), {STYLE: arm(0.5)}, BOUND, bootstrap)
    assert found.verdict == "no gain"
    assert why in found.why
    if base == 0.8:
        assert isinstance(found.mediated, Refused)


def test_the_fraction_is_a_number_also_where_a_resample_has_no_gain():
    """3 gained of 8: the gain's interval excludes 0, yet 2 in 100 resamples hold none of the three."""
    base, distilled = outcomes([0] * 8), outcomes([1, 1, 1, 0, 0, 0, 0, 0])
    gain, share = mediated_fraction(Arm(outcomes([0, 1, 1, 0, 0, 0, 0, 0]), []), distilled, base, Bootstrap(8, 4000, 0))
    assert isinstance(gain, Interval) and gain.excludes_zero()
    assert isinstance(share, Interval)
    assert share.estimate == pytest.approx(1 / 3)
    assert 0 <= share.low < 1 / 3 < share.high <= 1


def test_where_the_function_cannot_be_removed_the_verdict_stays_open(bootstrap):
    found = conclude(DISTILLED, BASE, {STYLE: arm(0.8)}, BOUND, bootstrap)
    assert found.verdict == "undetermined"
    assert conclude(DISTILLED, BASE, {STYLE: arm(0.6)}, BOUND, bootstrap).verdict == "stylistic"


def test_what_is_written_is_plain_json(bootstrap):
    arms = {STYLE: arm(0.8), FUNCTION: arm(0.75), BOTH: arm(0.5)}
    written = as_json(conclude(DISTILLED, BASE, arms, BOUND, bootstrap))
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert set(written["arms"]) == {STYLE, FUNCTION, BOTH}


def test_an_arm_on_the_first_problems_only_is_compared_on_those():
    """Prose is read with latent arms, which run on fewer problems than the ban does."""
    untouched = Outcomes({"accuracy": (np.r_[np.ones(40), np.zeros(60)], np.ones(100))})
    edited = Outcomes({"accuracy": (np.zeros(40), np.ones(40))})
    found = read(Arm(edited, []), untouched, 0.05, Bootstrap(100, 500))
    assert found.drop.estimate == 1.0
    assert found.reading == "drop"
