"""Manipulation checks at their thresholds, on tables written by hand."""

import numpy as np
import polars as pl
import pytest

from interp.causal.arms import BOTH, CIRCUIT, FUNCTION, STYLE
from interp.causal.checks import (
    as_rows,
    by_chance,
    check_arm,
    failures,
    function_of,
    mends_nothing,
    side_effects,
    sound_draws,
)
from interp.causal.runs import UNTOUCHED

from .runs import READ, Table, answers

N = 200
WORKS = {"markers": 4.0, "wrong": 0.5, "repaired": 0.4, "redone": 0.5, "revised": 0.4}
GONE, ECHOED = {"markers": 0.0}, {"repaired": 0.0, "revised": 0.0}
GOOD = {STYLE: GONE, FUNCTION: ECHOED, BOTH: GONE | ECHOED}


def failed(claim, *, untouched=None, said=None, bound=0.05, coherence=None, **columns):
    made = Table().untouched("distilled", answers(0.8, N), **(WORKS | (untouched or {})))
    made.arm("arm", claim, said=said, **(GOOD[claim] | columns))
    return failures(check_arm(made.runs(), "arm", bound=bound, coherence=coherence))


@pytest.mark.parametrize("claim", [STYLE, FUNCTION, BOTH])
def test_an_arm_that_did_what_it_says_passes(claim):
    assert failed(claim) == []


@pytest.mark.parametrize(
    ("claim", "columns", "said"),
    [
        (STYLE, {"markers": 0.41}, "markers stayed (4 to 0.41)"),
        (BOTH, {"markers": 0.41}, "markers stayed (4 to 0.41)"),
        (STYLE, {"repaired": 0.34, "revised": 0.34}, "the verification went too (wrong steps repaired 0.800 to 0.680)"),
        (STYLE, {"redone": 0.39}, "fewer checks are begun (0.5 to 0.39 per text)"),
        (FUNCTION, {"repaired": 0.05}, "the function stayed (wrong steps repaired 0.800 to 0.100)"),
        (BOTH, {"repaired": 0.05}, "the function stayed (wrong steps repaired 0.800 to 0.100)"),
        (FUNCTION, {"markers": 1.9}, "the markers changed too (4 to 1.9)"),
        (FUNCTION, {"markers": 12.1}, "the markers changed too (4 to 12.1)"),
        (FUNCTION, {"wrong": 0.2}, "the wrong steps went too (100 to 40), so that nothing could be repaired"),
        (STYLE, {"finished": (np.arange(N) >= 11).astype(float)}, "fewer texts end (1.000 to 0.945)"),
        (FUNCTION, {"finished": (np.arange(N) >= 31).astype(float)}, "fewer texts end (1.000 to 0.845)"),
        (BOTH, {"finished": (np.arange(N) >= 31).astype(float)}, "fewer texts end (1.000 to 0.845)"),
        (FUNCTION, {"length": 26}, "the length changed (40 to 26 tokens)"),
        (FUNCTION, {"length": 61}, "the length changed (40 to 61 tokens)"),
        (BOTH, {"repeats": 0.11}, "the text repeats itself (0.00 to 0.11)"),
        (BOTH, {"fired": 0}, "the edit never fired"),
        (FUNCTION, {"fired": 0}, "the edit never fired"),
        (STYLE, {"fired": (np.arange(N) < 29).astype(int)}, "the edit fired 29 times, 30 are needed"),
    ],
)
def test_each_failure_is_named(claim, columns, said):
    found = failed(claim, **columns)
    assert found == [said]


@pytest.mark.parametrize(
    ("claim", "columns"),
    [
        (STYLE, {"markers": 0.4, "repaired": 0.36, "redone": 0.41, "fired": (np.arange(N) < 30).astype(int)}),
        (FUNCTION, {"repaired": 0.039, "markers": 2.1, "length": 27, "wrong": 0.5}),
        (FUNCTION, {"finished": (np.arange(N) >= 30).astype(float)}),
        (BOTH, {"finished": (np.arange(N) >= 30).astype(float), "length": 59, "repeats": 0.09}),
    ],
)
def test_within_the_bounds_an_arm_passes(claim, columns):
    assert failed(claim, **columns) == []


def test_texts_that_no_longer_end_may_cost_no_more_than_the_bound():
    columns = {"finished": (np.arange(N) >= 8).astype(float)}
    assert failed(STYLE, **columns) == []
    assert failed(STYLE, bound=0.02, **columns) == ["fewer texts end (1.000 to 0.960)"]


def test_perplexity_counts_where_no_word_is_forced():
    assert failed(FUNCTION, coherence={"arm": 9.0}) == []
    free = {"forced": False}
    assert failed(FUNCTION, said=free, coherence={"arm": 1.5}) == ["the text is incoherent"]
    assert failed(FUNCTION, said=free, coherence={"arm": 1.49}) == []


def test_damage_is_of_the_problems_that_hold_nothing_of_what_is_removed():
    works = (np.arange(N) >= 40).astype(float)
    own = {"wrong": works, "repaired": works, "redone": works, "revised": works}
    right = answers(0.8, N)
    right[:3] = 0
    hit = {"right": right, "wrong": works, "redone": works}
    (said,) = failed(FUNCTION, untouched=own, **hit)
    assert said == "it also fails where nothing is to be removed (accuracy 1.000 to 0.925)"
    right[2] = 1
    assert failed(FUNCTION, untouched=own, **hit) == []
    right[40:80] = 0
    assert failed(FUNCTION, untouched=own, **hit) == []
    marked = {"markers": np.where(works, 4.0, 0.0)}
    right[2] = 0
    assert "nothing is to be removed" in failed(STYLE, untouched=marked, right=right)[0]
    assert failed(STYLE, untouched=marked, right=right, said={"found": True}) == []


def outcomes(**columns):
    runs = Table().untouched("distilled", answers(0.8, N), **columns).runs()
    return runs.outcomes(UNTOUCHED), runs.texts(UNTOUCHED)


@pytest.mark.parametrize(
    ("columns", "outcome", "absent"),
    [
        ({"wrong": 0.5, "redone": 0.5}, "verification_rate", False),
        ({"wrong": (np.arange(N) < 29) * 1.0, "redone": 0.5}, "revised", False),
        ({"redone": (np.arange(N) < 29) * 1.0}, None, False),
        ({"redone": (np.arange(N) < 4) * 1.0}, None, False),
        ({"redone": (np.arange(N) < 3) * 1.0}, None, True),
        ({"wrong": (np.arange(N) < 10) * 1.0}, None, True),
        ({"wrong": (np.arange(N) < 11) * 1.0}, None, False),
        ({"wrong": (np.arange(N) >= 160) * 1.0}, None, True),
        ({"text": "Ann has three apples and Ben has four."}, None, False),
        ({"text": [READ] * 180 + [""] * 20}, None, True),
        ({"text": [READ] * 179 + [""] * 21}, None, False),
    ],
)
def test_how_the_function_shows(columns, outcome, absent):
    found = function_of(*outcomes(**columns))
    assert (found.outcome, found.absent) == (outcome, absent)


def test_steps_that_the_problem_asks_for_twice_are_no_function():
    """The base works 9 of 200 steps again as well: of 12 in the distilled model 3 are left, of 33 too few to measure.
    More than a twentieth of the texts is not put down to chance."""
    for own, base, outcome, absent in (
        (12, 9, None, True),
        (13, 9, None, False),
        (33, 9, None, False),
        (40, 10, "revised", False),
        (39, 200, None, False),
        (40, 200, "revised", False),
    ):
        made = Table().untouched("distilled", answers(0.8, N), redone=(np.arange(N) < own) * 1.0)
        runs = made.untouched("base", answers(0.4, N), redone=(np.arange(N) < base) * 1.0).runs()
        chance = by_chance(runs, range(N), "distilled")
        assert chance == min(base, 10) and by_chance(runs, range(N), "base") == 0
        found = function_of(runs.outcomes(UNTOUCHED), runs.texts(UNTOUCHED), chance=chance)
        assert (found.outcome, found.absent) == (outcome, absent)
    assert by_chance(Table().untouched("distilled", answers(0.8, N)).runs(), range(N), "distilled") == 0


def test_what_is_said_to_be_too_few_does_not_count_what_the_problems_ask_for():
    made = Table().untouched("distilled", answers(0.8, N), redone=(np.arange(N) < 33) * 1.0)
    made.untouched("base", answers(0.4, N), redone=(np.arange(N) < 9) * 1.0).arm("arm", FUNCTION, fired=1)
    (few,) = [c for c in check_arm(made.runs(), "arm") if c.what == "steps worked again"]
    assert not few.passed and few.untouched == 24
    assert few.problem.endswith("24 steps worked again were seen, 30 are needed")


def test_what_the_base_works_again_too_is_kept_by_any_removal_of_style():
    """23 of 1,000 steps, as in every model: no function, and the arm is read."""
    n, again = 1000, (np.arange(1000) % 43 == 0) * 1.0
    made = Table().untouched("distilled", answers(0.9, n), markers=4.0, redone=again)
    alone = made.arm("arm", STYLE, markers=0.0, fired=2).runs()
    made.untouched("base", answers(0.5, n), redone=again)
    assert [c.problem for c in check_arm(made.runs(), "arm") if not c.passed] == []
    assert any("too few steps worked again" in c.problem for c in check_arm(alone, "arm") if not c.passed)


def test_side_effects_by_hand():
    """Repairs .8 to .7 of half a wrong step a text, and a twentieth of the texts no longer ends."""
    ends = (np.arange(N) >= 10).astype(float)
    made = Table().untouched("distilled", answers(0.8, N), **WORKS)
    made.arm("style", STYLE, repaired=0.35, finished=ends, **GONE).arm("function", FUNCTION, finished=ends, **ECHOED)
    runs = made.runs()
    cost, said = side_effects(runs, "style")
    assert cost == pytest.approx(0.05 + 0.05)
    assert said == "0.050 texts that no longer end and 0.050 repairs that are no longer made"
    assert side_effects(runs, "function")[0] == pytest.approx(0.05)


def test_rows_are_plain():
    made = Table().untouched("distilled", answers(0.8, N), **WORKS).arm("arm", STYLE, **GONE)
    rows = as_rows(check_arm(made.runs(), "arm"))
    by = {row["what"]: (row["untouched"], row["edited"], row["passed"]) for row in rows}
    assert by["markers per 100 tokens"] == (4.0, 0.0, True)
    assert by["wrong steps repaired"] == pytest.approx((0.8, 0.8, True))
    assert by["edits fired"] == (None, 2.0 * N, True)


def test_a_control_of_another_model_is_checked_on_that_model():
    made = Table().untouched("distilled", answers(0.8, N), **WORKS).untouched("base", answers(0.4, N), markers=2.0)
    made.arm("arm", STYLE, **GONE)
    (stayed,) = [c for c in check_arm(made.runs(), "arm", model="base") if c.what == "markers per 100 tokens"]
    assert (stayed.untouched, stayed.edited, stayed.passed) == (2.0, 2.0, False)


def controlled(draws, family=CIRCUIT, claim=BOTH, quiet=0.5):
    """An arm on latents whose controls are right on these shares of the problems without a wrong step, of which there
    are a share `quiet`; elsewhere they are as untouched."""
    made, right = Table(), np.ones(N)
    busy = (np.arange(N) >= quiet * N).astype(float)
    made.untouched("distilled", right, markers=4.0 * busy, wrong=busy, repaired=busy, redone=busy, revised=busy)
    answers_ = []
    for share in draws:
        values = right.copy()
        values[: int(quiet * N * (1 - share))] = 0.0
        answers_.append(values)
    made.arm("arm", claim, said={"family": family}, draws=answers_, **(GOOD[claim]))
    return sound_draws(made.runs(), "arm")


def test_controls_of_latents_that_do_other_harm_are_left_out():
    assert controlled([1.0] * 21 + [0.4, 0.94]) == list(range(1, 22))
    assert controlled([1.0] * 20 + [0.96]) == list(range(1, 22)), "within five points"
    assert controlled([1.0] * 19 + [0.4]) == list(range(1, 21)), "too few would be left"


def test_of_edits_of_text_all_controls_count():
    assert controlled([1.0] * 21 + [0.4], family="both") == list(range(1, 23))


def test_with_too_few_problems_to_see_harm_all_controls_count():
    assert controlled([1.0] * 21 + [0.0], quiet=29 / N) == list(range(1, 23))
    assert controlled([1.0] * 21 + [0.0], quiet=30 / N) == list(range(1, 22))


def test_harm_is_looked_for_where_nothing_is_to_be_removed():
    """Of a removal of function, markers do not make a problem one of those: here every problem has one."""
    made, right, busy = Table(), np.ones(N), (np.arange(N) >= N / 2).astype(float)
    made.untouched("distilled", right, markers=4.0, wrong=busy, repaired=busy, redone=busy, revised=busy)
    broken = np.where(busy == 0, 0.0, 1.0)
    draws = [right] * 20 + [broken]
    made.arm("function", FUNCTION, said={"family": CIRCUIT}, draws=draws, **ECHOED)
    made.arm("both", BOTH, said={"family": CIRCUIT}, draws=draws, **(GONE | ECHOED))
    assert sound_draws(made.runs(), "function") == list(range(1, 21))
    assert sound_draws(made.runs(), "both") == list(range(1, 22)), "no problem is without markers"


def noticed(mended=0.02, survives=0.2, base=0.2, without=()):
    """`noticed.parquet`: the upper end of the share mended, and the shares of right answers after a wrong step, of .8
    after the right one."""
    rows = [
        ("distilled", "repaired", 0.0, mended),
        ("distilled", "correct_wrong", survives, 1.0),
        ("distilled", "correct_right", 0.8, 1.0),
        ("base", "repaired", 0.9, 0.9),
        ("base", "correct_wrong", base, 1.0),
        ("base", "correct_right", 0.8, 1.0),
    ]
    kept = [row for row in rows if row[:2] not in without]
    return pl.DataFrame(kept, schema=["model", "measure", "estimate", "high"], orient="row")


def test_a_model_that_mends_no_injected_error_and_does_not_survive_them_has_no_function():
    assert mends_nothing(noticed())
    assert mends_nothing(noticed(mended=0.1)) and not mends_nothing(noticed(mended=0.11))
    # .32 - .2 of .8 are .15 more than the base's: more would be mended in a way that is not seen.
    assert mends_nothing(noticed(survives=0.319)) and not mends_nothing(noticed(survives=0.33))
    assert not mends_nothing(noticed(mended=None))
    for row in (("distilled", "repaired"), ("distilled", "correct_right"), ("base", "correct_wrong")):
        assert not mends_nothing(noticed(without=[row]))


def test_where_steps_are_sentences_injected_errors_say_that_there_is_no_function():
    prose = {"text": "Ann has three apples and Ben has four.", "markers": 4.0}
    made = Table().untouched("distilled", answers(0.8, N), **prose).untouched("base", answers(0.4, N), **prose)
    made.arm("arm", STYLE, answers(0.8, N), **GONE).arm("both", BOTH, answers(0.8, N), **GONE)
    for name in ("arm", "both"):
        (unknown,) = failures(check_arm(made.runs(), name))
        assert "could not be" in unknown
        assert failures(check_arm(made.runs(), name, none=True)) == []
    works = Table().untouched("distilled", answers(0.8, N), **(WORKS | prose)).untouched("base", answers(0.4, N))
    works.arm("arm", STYLE, answers(0.8, N), **(GONE | {"repaired": 0.1, "redone": 0.1, "revised": 0.1}))
    assert failures(check_arm(works.runs(), "arm", none=True)), "what is seen in the texts counts more"
