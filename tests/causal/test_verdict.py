"""The reading's numbers by hand: losses, bounds, gains, and the mediated fraction."""

import json

import numpy as np
import pytest

from interp.causal.arms import BOTH, FUNCTION, STYLE
from interp.causal.reading import control_losses, gain_over, losses, mediated_fraction, read
from interp.causal.verdict import as_json, conclude
from interp.names import EDITED
from interp.statistics import Bootstrap, Interval, Refused, clopper_pearson

from .runs import Table, answers

N, BOUND = 1000, 0.05
PLAIN, GONE = {"markers": 4.0}, {"markers": 0.0}


def bootstrap(n, seen={}):  # noqa: B006  kept over the tests
    return seen.setdefault(n, None) or seen.update({n: Bootstrap(n, 1000, 0)}) or seen[n]


def study(mine=0.8, base=0.4, control=None):
    made = Table().untouched("distilled", answers(mine, N), **PLAIN).untouched("base", answers(base, N))
    return made if control is None else made.untouched("control", answers(control, N))


def reading(share, *, draws=(0.8,) * 3, changed=10, bound=BOUND, **arm):
    made = study().arm("a", STYLE, answers(share, N, changed), draws=[answers(d, N) for d in draws], **(GONE | arm))
    return read(made.runs(), "a", bound, bootstrap, ())


def test_losses_are_of_each_problem_and_model_and_controls_of_their_own_problems():
    made = (
        Table().untouched("distilled", np.array([1, 1, 1, 1, 0, 0.0])).untouched("base", np.array([0, 1, 0, 1, 0, 1.0]))
    )
    draws = [np.array([0, 1, 1.0]), np.array([1, 1, 0.0])]
    made.arm("a", STYLE, np.array([1, 0, 0, 1, 1.0]), base=np.zeros(6), draws=draws, numbers=range(1, 6))
    runs = made.runs()
    assert losses(runs, "a").tolist() == [0, 1, 1, -1, -1]
    assert losses(runs, "a", 0, "base").tolist() == [1, 0, 1, 0, 1]
    controls, among = control_losses(runs, "a")
    assert controls.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert among.tolist() == [0, 1, 2]
    found = read(runs, "a", BOUND, bootstrap, ())
    assert found.own.estimate == pytest.approx(0.0)
    assert found.net.estimate == pytest.approx(-3 / 5)
    assert found.control == pytest.approx(1 / 3)
    assert found.beyond.estimate == pytest.approx(-1 / 3)
    assert control_losses(Table().untouched("distilled", np.ones(3)).arm("b", STYLE).runs(), "b") is None


def test_problems_of_controls_are_found_by_their_numbers():
    """The arm begins at problem 2; its draws hold its first two problems."""
    made = Table().untouched("distilled", np.ones(5))
    made.arm("a", STYLE, np.zeros(3), draws=[np.array([0, 1.0])], numbers=[2, 3, 4])
    _, among = control_losses(made.runs(), "a")
    assert among.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("share", "word"),
    [
        (0.956, "rise"),
        (0.842, "undetermined"),
        (0.8, "no drop"),
        (0.758, "undetermined"),
        (0.742, "undetermined"),
        (0.6, "drop"),
    ],
)
def test_an_arm_is_read_with_the_whole_interval_on_both_sides(share, word):
    found = reading(share)
    assert found.reading == word
    assert (word == "no drop") == (found.own.low > -BOUND and found.own.high < BOUND)
    assert found.needed is None or (word == "undetermined" and found.needed >= N)


def test_an_open_reading_names_the_problems_that_would_close_it():
    """.008 short of the bound, and of minus the bound."""
    down, up = reading(0.758), reading(0.842)
    half = (down.own.high - down.own.low) / 2
    assert down.needed == pytest.approx(N * (half / 0.008) ** 2, rel=0.1)
    assert up.needed == pytest.approx(down.needed, rel=0.3)


def test_the_loss_of_the_gain_is_less_what_the_base_loses():
    found = reading(0.6, base=answers(0.25, N))
    assert (found.own.estimate, found.net.estimate) == pytest.approx((0.2, 0.05))
    assert found.reading == "undetermined"
    gained = reading(0.8, base=answers(0.25, N))
    assert gained.net.estimate == pytest.approx(-0.15) and gained.reading == "undetermined"
    loss = answers(0.8, N) - answers(0.6, N, 10) - (answers(0.4, N) - answers(0.25, N))
    sums = bootstrap(N).counts.astype(float) @ loss / N
    assert (found.net.low, found.net.high) == pytest.approx(tuple(np.quantile(sums, [0.025, 0.975])), abs=1e-6)


def test_controls_that_lose_as_much_leave_no_drop():
    found = reading(0.5, draws=(0.5, 0.55))
    assert found.control == pytest.approx(0.275)
    assert found.beyond.estimate == pytest.approx(0.025)
    assert found.reading == "undetermined"
    assert reading(0.5, draws=(0.75, 0.78)).reading == "drop"
    near = reading(0.7, draws=(0.757,))
    assert near.own.low > BOUND and near.beyond.low < BOUND < near.beyond.estimate
    assert near.reading == "undetermined", "by the whole interval, not by the estimate"


def test_the_interval_beyond_controls_is_wider_with_draws_that_differ():
    alike, apart = reading(0.5, draws=(0.7,) * 4), reading(0.5, draws=(0.8, 0.6) * 2)
    assert alike.beyond.estimate == pytest.approx(apart.beyond.estimate)
    width = [r.beyond.high - r.beyond.low for r in (alike, apart)]
    assert width[1] > 1.5 * width[0]


def test_gains_are_of_the_distilled_model_over_each_other():
    runs = study(0.8, 0.4, 0.55).runs()
    assert gain_over(runs, "base", bootstrap).estimate == pytest.approx(0.4)
    assert gain_over(runs, "control", bootstrap).estimate == pytest.approx(0.25)
    found = conclude(runs, resamples=200)
    assert found.gain.estimate == pytest.approx(0.4)
    assert found.gain_over_control.estimate == pytest.approx(0.25)
    assert conclude(study().runs(), resamples=200).gain_over_control is None


@pytest.mark.parametrize(("base", "limit"), [(0.4, 0.05), (0.68, 0.04), (0.9, 0.05)])
def test_the_bound_is_the_smaller_of_five_points_and_a_third_of_the_gain(base, limit):
    assert conclude(study(0.8, base).runs(), resamples=200).bound == pytest.approx(limit)


def mediated(made, gain=None, name_bound=BOUND):
    runs = made.runs()
    arms = {n: read(runs, n, BOUND, bootstrap, ()) for n in runs.arms}
    return mediated_fraction(runs, arms, gain or gain_over(runs, "base", bootstrap), name_bound, bootstrap)


def test_three_removals_of_different_sizes_by_hand():
    """Untouched .8, base .4: a gain of .4. Style loses .3, its base .02 and its controls .1; the share of the gain is
    of the style alone: (.3 - .02 - .1) / .4."""
    made = study()
    made.arm("f", FUNCTION, answers(0.45, N), draws=[answers(0.75, N)])
    made.arm("b", BOTH, answers(0.2, N), draws=[answers(0.9, N)], **GONE)
    made.arm("s", STYLE, answers(0.5, N), base=answers(0.38, N), draws=[answers(0.65, N), answers(0.75, N)], **GONE)
    found = mediated(made)
    assert isinstance(found, Interval)
    assert found.estimate == pytest.approx(0.18 / 0.4)
    assert found.low < 0.45 < found.high and 0.05 < found.high - found.low < 0.35
    verdict = conclude(made.runs(), resamples=400)
    assert verdict.mediated.estimate == pytest.approx(0.45)
    assert [r.control for r in verdict.arms.values()] == pytest.approx([0.05, -0.1, 0.1])
    assert [r.own.estimate for r in verdict.arms.values()] == pytest.approx([0.35, 0.6, 0.3])


def test_the_fraction_is_of_the_gain_on_the_arms_own_problems():
    """An arm on the second half, where the gain is .8 - 0 on the first 600 problems only: .6 - .4 of 1,000."""
    made = study()
    half = range(500, N)
    made.arm("s", STYLE, np.zeros(500), draws=[answers(0.8, N)[500:]], numbers=half, said={"found": True}, **GONE)
    found = mediated(made)
    assert found.estimate == pytest.approx(1.0)


def test_the_fraction_is_one_where_everything_gained_is_lost():
    made = study().arm("s", STYLE, answers(0.4, N), draws=[answers(0.8, N)] * 2, **GONE)
    found = mediated(made)
    edge = clopper_pearson(0, N)[1] / 0.4  # that all of it is lost in every problem gained is no certainty
    assert (found.estimate, found.low, found.high) == pytest.approx((1, 1 - edge, 1 + edge))


def test_where_no_problem_changes_neither_the_fraction_nor_the_loss_beyond_controls_is_certain():
    made = study().arm("s", STYLE, answers(0.8, N), draws=[answers(0.8, N)] * 3, **GONE)
    edge = clopper_pearson(0, N)[1]
    found = mediated(made)
    assert (found.estimate, found.low, found.high) == pytest.approx((0, -edge / 0.4, edge / 0.4))
    beyond = read(made.runs(), "s", BOUND, bootstrap, ()).beyond
    assert (beyond.estimate, beyond.low, beyond.high) == pytest.approx((0, -edge, edge))


@pytest.mark.parametrize(
    ("base", "draws", "said"),
    [(0.8, 0.8, "may be 0"), (0.77, 0.8, "below the bound"), (0.4, 0.45, "more than the removal")],
)
def test_the_fraction_is_refused(base, draws, said):
    made = study(0.8, base).arm("s", STYLE, answers(0.6, N, 5), draws=[answers(draws, N)] * 2, **GONE)
    found = mediated(made)
    assert isinstance(found, Refused) and said in found.refused


def test_without_an_arm_that_passed_the_fraction_is_refused():
    made = study().arm("s", STYLE, answers(0.5, N), draws=[answers(0.8, N)], markers=4.0)
    found = conclude(made.runs(), resamples=200)
    assert found.mediated == Refused("no removal of style kept the function")


def test_the_same_seed_gives_the_same_verdict_and_another_other_intervals():
    made = study().arm("s", STYLE, answers(0.6, N, 40), draws=[answers(0.78, N, 30)] * 3, **GONE).runs()
    one, two, three = (as_json(conclude(made, resamples=300, seed=seed)) for seed in (0, 0, 1))
    assert one == two
    assert one["arms"]["s"]["own"]["low"] != three["arms"]["s"]["own"]["low"]


def test_what_is_written_is_plain_json_and_holds_the_numbers():
    made = study(control=0.4)
    for name, claim, columns in (("s", STYLE, GONE), ("f", FUNCTION, {}), ("b", BOTH, GONE)):
        made.arm(name, claim, answers(0.79, N, 9), draws=[answers(0.79, N)] * 2, **columns)
    found = conclude(made.runs(), resamples=300)
    written = as_json(found)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert set(written["arms"]) == {"s", "f", "b"}
    for name, arm in written["arms"].items():
        r = found.arms[name]
        assert (arm["claim"], arm["reading"], arm["needed"]) == (r.claim, r.reading, r.needed)
        assert arm["own"] == r.own.as_dict() and arm["net"] == r.net.as_dict() and arm["beyond"] == r.beyond.as_dict()
        assert arm["control_drop"] == r.control == pytest.approx(0.01)
        assert {c["what"] for c in arm["checks"]} >= {"share finished", "tokens"}
    assert written["read_from"] == {STYLE: "s", FUNCTION: "f", BOTH: "b"}
    assert EDITED == "distilled"


def test_matched_latents_that_do_other_harm_are_not_subtracted():
    """Half of the problems hold no marker, and there 20 of 40 draws break everything."""
    plain = np.tile([1.0, 1.0, 1.0, 1.0, 0.0], N // 5)
    quiet = np.arange(N) < N / 2
    made = Table().untouched("distilled", plain, markers=np.where(quiet, 0.0, 4.0)).untouched("base", answers(0.4, N))
    lost, broken = np.where(quiet, plain, 0.0), np.where(quiet, 0.0, plain)
    draws = [plain] * 20 + [broken] * 20
    for family, control in (("circuit", 0.0), ("style", 0.2)):
        made.arm(family, STYLE, lost, draws=draws, said={"family": family}, **GONE)
        found = read(made.runs(), family, BOUND, bootstrap, ())
        assert found.own.estimate == pytest.approx(0.4) and found.control == pytest.approx(control)
        assert found.beyond.estimate == pytest.approx(0.4 - control)
