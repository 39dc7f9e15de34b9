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
    ("style", "function", "both", "verdict"),
    [
        (0.80, 0.80, 0.80, "decorative"),
        (0.80, 0.80, 0.50, "redundant"),
        (0.80, 0.80, 0.75, "undetermined"),
        (0.80, 0.80, 0.95, "undetermined"),
        (0.80, 0.60, 0.50, "functional"),
        (0.60, 0.80, 0.50, "stylistic"),
        (0.60, 0.60, 0.50, "stylistic"),
        (0.75, 0.60, 0.50, "undetermined"),
        (0.80, 0.75, 0.50, "undetermined"),
        (0.75, 0.75, 0.50, "undetermined"),
        (0.95, 0.60, 0.50, "undetermined"),
        (0.80, 0.95, 0.50, "undetermined"),
    ],
)
def test_the_reading_table(bootstrap, style, function, both, verdict):
    arms = {STYLE: arm(style), FUNCTION: arm(function), BOTH: arm(both)}
    found = conclude(DISTILLED, BASE, arms, BOUND, bootstrap)
    assert found.verdict == verdict
    decided = {0.95: "rise", 0.80: "no drop", 0.75: "undetermined", 0.60: "drop", 0.50: "drop"}
    assert [r.reading for r in found.arms.values()] == [decided[value] for value in (style, function, both)]
    for reading in found.arms.values():
        assert reading.needed is None or (reading.reading == "undetermined" and reading.needed >= N)


@pytest.mark.parametrize(
    ("style", "function", "both", "said"),
    [
        (0.95, 0.6, 0.5, "Accuracy rises without the markers, beyond the bound."),
        (0.8, 0.95, 0.5, "Accuracy rises without the verification"),
        (0.8, 0.8, 0.95, "Accuracy rises without the markers and the verification together"),
        (0.75, 0.6, 0.5, "Whether accuracy changes without the markers is open"),
        (0.8, 0.75, 0.5, "Whether accuracy changes without the verification"),
        (0.8, 0.8, 0.75, "Whether accuracy changes without the markers and the verification together is open"),
        (0.8, 0.8, 0.5, "falls without both"),
    ],
)
def test_the_reason_names_the_removal_that_decides(bootstrap, style, function, both, said):
    arms = {STYLE: arm(style), FUNCTION: arm(function), BOTH: arm(both)}
    found = conclude(DISTILLED, BASE, arms, BOUND, bootstrap)
    assert said in found.why
    assert "None" not in found.why


def test_where_words_and_work_stand_in_for_each_other_the_loss_of_both_is_not_overlooked(bootstrap):
    """Neither removal alone costs anything and both together cost .42: it is false that nothing is lost."""
    arms = {STYLE: arm(0.80), FUNCTION: arm(0.80), BOTH: arm(0.38)}
    found = conclude(DISTILLED, BASE, arms, BOUND, bootstrap)
    assert found.arms[BOTH].drop.estimate == pytest.approx(0.42)
    assert found.verdict == "redundant"
    assert conclude(DISTILLED, BASE, {STYLE: arm(0.8), FUNCTION: arm(0.8)}, BOUND, bootstrap).verdict == "undetermined"


@pytest.mark.parametrize(
    ("accuracy", "reading"), [(0.956, "rise"), (0.842, "undetermined"), (0.80, "no drop"), (0.758, "undetermined")]
)
def test_a_rise_beyond_the_bound_is_not_no_drop(bootstrap, accuracy, reading):
    """No drop is two-sided: the whole interval lies within the bound."""
    found = read(arm(accuracy), DISTILLED, BOUND, bootstrap)
    assert found.reading == reading
    assert (reading == "no drop") == (found.drop.low > -BOUND and found.drop.high < BOUND)


def test_an_open_rise_names_the_problems_that_would_close_it(bootstrap):
    """.008 short of minus the bound, as the drop of .042 is short of the bound."""
    up, down = (read(arm(accuracy), DISTILLED, BOUND, bootstrap) for accuracy in (0.842, 0.758))
    assert up.drop.estimate == pytest.approx(-down.drop.estimate)
    assert up.needed is not None and down.needed is not None
    assert up.needed == pytest.approx(down.needed, rel=0.15)


def test_three_removals_of_different_sizes_by_hand(bootstrap):
    """Untouched .8, base .4: a gain of .4. Style loses .2, its controls .1; function .35, its controls .05; both .6,
    their controls -.1. The share of the gain is of the style alone: (.2 - .1) / .4."""
    arms = {
        STYLE: Arm(run(0.6), [run(0.65), run(0.75)]),
        FUNCTION: Arm(run(0.45), [run(0.75)]),
        BOTH: Arm(run(0.2), [run(0.9)]),
    }
    found = conclude(DISTILLED, BASE, arms, BOUND, bootstrap)
    assert isinstance(found.gain, Interval) and isinstance(found.mediated, Interval)
    assert found.gain.estimate == pytest.approx(0.4)
    assert found.mediated.estimate == pytest.approx(0.25)
    assert [r.control_drop for r in found.arms.values()] == pytest.approx([0.1, 0.05, -0.1])
    assert [r.drop.estimate for r in found.arms.values()] == pytest.approx([0.1, 0.3, 0.7])
    written = as_json(found)
    assert written["mediated_fraction"]["estimate"] == pytest.approx(0.25)
    assert written["gain"]["estimate"] == pytest.approx(0.4)
    for name, arm_ in written["arms"].items():
        assert arm_["drop"] == found.arms[name].drop.as_dict()
        assert arm_["control_drop"] == found.arms[name].control_drop
        assert (arm_["reading"], arm_["needed"]) == (found.arms[name].reading, found.arms[name].needed)


def test_the_drops_interval_is_the_resampled_loss_less_the_controls_mean(bootstrap):
    found = read(Arm(run(0.6, flip=20), [run(0.75)]), DISTILLED, BOUND, bootstrap)
    loss = DISTILLED.parts["accuracy"][0] - run(0.6, flip=20).parts["accuracy"][0]
    low, high = np.quantile(bootstrap.counts.astype(float) @ loss / N, [0.025, 0.975])
    assert (found.drop.low, found.drop.high) == pytest.approx((low - 0.05, high - 0.05), abs=1e-6)


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


@pytest.mark.parametrize(("base", "why"), [(0.80, "may be 0"), (0.9, "worse than its base")])
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
