"""Situations made to mislead the instrument: each must end in the right word, or in a refusal that names the reason.

The tables are written by hand (`runs.Table`), as if they had been run: 600 problems, of which base and control solve
40 %, the distilled model 80 %; a few answers change in every arm, since every edit changes some.
"""

import numpy as np
import pytest

from interp.causal.arms import BOTH, FUNCTION, STYLE
from interp.causal.checks import check_arm, failures
from interp.causal.verdict import (
    DECORATIVE,
    FUNCTIONAL,
    HARMFUL,
    NO_GAIN,
    OPENED,
    REDUNDANT,
    STYLISTIC,
    TRAINING,
    UNDETERMINED,
    conclude,
)
from interp.statistics import Refused

from .runs import Table, answers

N = 600
SUBSTITUTION, BAN = "markers become neutral words", "markers banned"
WIDE = "markers and unlisted words become neutral words"
ECHO, TOGETHER = "repeated steps echo the first result", "both removed"
WORKS = {"markers": 4.0, "wrong": 0.5, "repaired": 0.4, "redone": 0.5, "revised": 0.4}
"""A model that checks: half a wrong step a text, of which 80 % are repaired."""
PLAIN = {"markers": 4.0}
"""A model of clean steps, none of which is worked again."""
GONE = {"markers": 0.0}
ECHOED = {"repaired": 0.0, "revised": 0.0}
PROSE = "Ann has three apples and Ben has four."


def distilled(share, changed=6, n=N):
    return answers(share, n, changed)


def study(base=0.4, mine=0.8, control=0.4, n=N, **columns):
    made = Table().untouched("distilled", answers(mine, n), **(WORKS | columns))
    made.untouched("base", answers(base, n))
    return made if control is None else made.untouched("control", answers(control, n))


def controls(share=0.8, n=N, draws=4):
    return [distilled(share, 4 + i % 5, n) for i in range(draws)]


def removals(made, style=0.8, function=0.8, both=0.8, n=N, *, ban=None, style_draws=None, **style_columns):
    """The three removals with these accuracies; the ban beside the substitution where it is given, as its accuracy
    or its columns; keyword arguments are columns of the substitution."""
    draws = controls(n=n) if style_draws is None else style_draws
    made.arm(SUBSTITUTION, STYLE, distilled(style, n=n), draws=draws, **(GONE | style_columns))
    if ban is not None:
        own = ban if isinstance(ban, dict) else {"right": ban}
        more = {name: value for name, value in own.items() if name != "right"}
        made.arm(BAN, STYLE, distilled(own["right"], n=n), draws=draws, **(GONE | more))
    works = made.plain["distilled"].get("redone", 0)
    gone = ECHOED if np.any(works) else {}
    made.arm(ECHO, FUNCTION, distilled(function, n=n), draws=controls(n=n), **gone)
    made.arm(TOGETHER, BOTH, distilled(both, n=n), draws=controls(n=n), **(GONE | gone))
    return made


def read(made, **options):
    return conclude(made.runs(), resamples=400, **options)


def words(found):
    """Verdict and reason, for the message of a failing test."""
    return found.verdict, found.why


# First the truths that the instrument must be able to say.


def test_the_five_readings_are_reached_where_they_are_true():
    assert read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN))).verdict == DECORATIVE
    assert read(removals(study(), 0.8, 0.55, 0.52)).verdict == FUNCTIONAL
    assert read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.5, 0.8, 0.5)).verdict == STYLISTIC
    assert read(removals(study(), 0.8, 0.8, 0.45)).verdict == REDUNDANT
    coupled = removals(study(), 0.8, 0.55, 0.52, ban={"right": 0.6, "repaired": 0.1, "redone": 0.2, "revised": 0.1})
    found = read(coupled)
    assert found.verdict == OPENED, words(found)
    assert "wrong steps repaired 0.8 to 0.2" in found.why


def test_opened_by_its_words_also_where_no_words_match_the_ban():
    """Where every check opens with a marker, no neutral word is as frequent, and the ban has no controls: that is no
    reason to call the words a by-product."""
    made = removals(study(), 0.8, 0.55, 0.52)
    made.arm(BAN, STYLE, distilled(0.6), draws=[], **(GONE | {"repaired": 0.1, "redone": 0.2, "revised": 0.1}))
    found = read(made)
    assert found.verdict == OPENED, words(found)
    assert "accuracy falls by 0.200" in found.why


def test_where_it_is_open_whether_the_words_open_the_checks_that_is_the_verdict():
    """The ban takes the verification along, and the interval of what it costs holds the bound."""
    made = removals(study(), 0.8, 0.55, 0.52)
    made.arm(BAN, STYLE, distilled(0.76), draws=[], **(GONE | {"repaired": 0.1, "redone": 0.2, "revised": 0.1}))
    found = read(made)
    assert found.verdict == UNDETERMINED, words(found)
    assert "whether the words open it is open: " + BAN in found.why


# The eleven of the review.


def test_1_every_check_starts_with_a_listed_marker():
    """Ban and substitution take the checks away with the words: repairs .8 to .1, accuracy down by .3."""
    lost = {"repaired": 0.05, "redone": 0.1, "revised": 0.05}
    found = read(removals(study(), 0.5, 0.5, 0.45, **lost))
    assert found.verdict == UNDETERMINED, words(found)
    assert "also removed the verification" in found.why and "0.800 to 0.100" in found.why
    assert isinstance(found.mediated, Refused)


def test_2_words_or_work_alone_suffice():
    found = read(removals(study(), 0.8, 0.8, 0.38))
    assert found.verdict == REDUNDANT, words(found)


def test_3_the_controls_of_the_ban_cost_more_than_the_ban():
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.6, 0.8, 0.6, style_draws=controls(0.35)))
    assert found.verdict == UNDETERMINED, words(found)
    assert "controls cost" in found.why and "cannot be subtracted" in found.why
    assert isinstance(found.mediated, Refused) and "more than the removal" in found.mediated.refused


def test_4_an_ablation_that_ends_the_repairs_beside_controls_that_destroy_the_text():
    """Prose, the function removed by latents: drop .27, controls .43."""
    made = study()
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm("ablate verification latents", FUNCTION, distilled(0.53), draws=controls(0.37), **ECHOED)
    made.arm(TOGETHER, BOTH, distilled(0.5), draws=controls(0.37), **(GONE | ECHOED))
    found = read(made)
    assert found.verdict == UNDETERMINED, words(found)
    assert "verification taken away" in found.why and "controls cost 0.4" in found.why


@pytest.mark.parametrize("text", [PROSE, "$7 \\otimes 5 \\to 35$"])
def test_5_equations_are_not_read_and_the_echo_never_fires(text):
    made = study(**dict.fromkeys(WORKS, 0) | PLAIN, text=text)
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, draws=[answers(0.8, N)] * 8, fired=0)
    made.arm(TOGETHER, BOTH, distilled(0.8), draws=controls(), **GONE)
    found = read(made)
    assert found.verdict == UNDETERMINED, words(found)
    assert "could not be measured" in found.why
    assert {"the edit never fired"} < set(found.arms[ECHO].failed)


def test_6_texts_are_cut_at_the_limit():
    cut = np.arange(N) % 5 < 2
    for ends, said in ((cut, "fewer texts end"), (np.arange(N) >= 24, "no longer end")):
        made = study(**dict.fromkeys(WORKS, 0) | PLAIN)
        loss = 0.4 if ends is cut else 0.7
        found = read(removals(made, loss, 0.8, loss, finished=ends.astype(float)))
        assert found.verdict == UNDETERMINED, words(found)
        assert said in found.why


@pytest.mark.parametrize(("without", "verdict"), [(0.55, FUNCTIONAL), (0.68, UNDETERMINED)])
def test_checks_that_come_to_nothing_may_go_on_for_ever_and_what_that_costs_is_taken_off(without, verdict):
    """A tenth of the texts no longer end without the function: of a loss of .25 the rest is above the bound, of one of
    .12 it is not."""
    ends = (np.arange(N) >= 60).astype(float)
    made = study().arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(without), draws=controls(), finished=ends, **ECHOED)
    made.arm(TOGETHER, BOTH, distilled(without), draws=controls(), finished=ends, **(GONE | ECHOED))
    found = read(made)
    assert found.verdict == verdict, words(found)
    assert found.arms[ECHO].passed and ("0.100 texts that no longer end" in found.arms[ECHO].why) == (without > 0.6)


def test_in_prose_without_repetitions_injected_errors_say_that_there_is_nothing_to_keep():
    silent = dict.fromkeys(WORKS, 0) | PLAIN | {"text": PROSE}
    made = removals(study(**silent), 0.5, 0.8, 0.5)
    assert read(made).verdict == UNDETERMINED
    found = read(made, mends_nothing=True)
    assert found.verdict == STYLISTIC, words(found)


def test_7_the_gate_word_is_in_no_lexicon():
    """Found among the words that set the model apart: taken away, the gain goes; where it cannot be, or the arm failed,
    the verdict names it."""
    made = removals(study(**dict.fromkeys(WORKS, 0) | PLAIN))
    told = read(made, found=["hence"], coverage=0.3)
    assert told.verdict == UNDETERMINED and "hence" in told.why and "30%" in told.why, words(told)
    half = range(N // 2, N)
    wide = {"numbers": half, "said": {"found": True, "first": N // 2}, "text": "3 + 4 = 7"}
    lost = np.r_[answers(0.8, N)[: N // 2], answers(0.4, N // 2)]
    made.arm(WIDE, STYLE, distilled(0.35), draws=[distilled(0.8)[half]] * 8, **(GONE | wide))
    stays = read(made, found=["hence"], coverage=0.3)
    assert stays.verdict != DECORATIVE, words(stays)
    assert len(lost) == N


def test_7b_an_unlisted_gate_word_that_is_taken_away_with_the_markers_is_stylistic():
    said = "3 + 4 = 7 hence 7 + 1 = 8"
    made = study(**dict.fromkeys(WORKS, 0) | PLAIN, text=said)
    removals(made)
    numbers = range(0, N, 2)
    wide = {"numbers": numbers, "said": {"found": True}, "text": "3 + 4 = 7 now 7 + 1 = 8"}
    draws = [distilled(0.8)[list(numbers)]] * 8
    made.arm(WIDE, STYLE, distilled(0.45), draws=draws, **(GONE | wide))
    made.arm("both, with the unlisted", BOTH, distilled(0.45), draws=draws, **(GONE | wide))
    found = read(made, found=["hence"], coverage=0.3)
    assert found.verdict == STYLISTIC, words(found)
    assert found.read_from[STYLE] == WIDE
    stayed = [c for c in check_arm(made.runs(), WIDE, found=["now 7"]) if "unlisted" in c.what]
    assert failures(stayed) == ["unlisted words stayed (0 to 1)"]


def test_8_a_small_gain_of_which_the_ban_takes_half():
    """Gain .064, loss .035: the bound is a third of the gain, not five points."""
    n = 3000
    made = removals(study(0.736, 0.8, 0.736, n, **dict.fromkeys(WORKS, 0) | PLAIN), 0.765, 0.8, 0.765, n)
    found = read(made)
    assert found.bound == pytest.approx(0.064 / 3)
    assert found.verdict == STYLISTIC, words(found)
    assert found.mediated.estimate == pytest.approx(0.035 / 0.064, rel=0.01)


def test_9_accuracy_rises_without_the_words():
    clean = dict.fromkeys(WORKS, 0) | PLAIN
    found = read(removals(study(**clean), 0.95, 0.8, 0.95))
    assert found.verdict == HARMFUL and "accuracy rises" in found.why, words(found)
    assert read(removals(study(), 0.95, 0.6, 0.8)).verdict == HARMFUL, "and the work helps"
    found = read(removals(study(**clean), 0.95))
    assert found.verdict == UNDETERMINED and "contradict" in found.why, words(found)
    rise = read(removals(study(), 0.8, 0.95, 0.8))
    assert rise.verdict == UNDETERMINED and "The verification costs accuracy" in rise.why


@pytest.mark.parametrize("which", ["base", "control", "draws"])
def test_a_rise_that_others_share_is_no_harm_of_this_style(which):
    """The base rises as much under the same edit, or the control fine-tune, or the model itself under matched words."""
    made = study(**dict.fromkeys(WORKS, 0) | PLAIN)
    raised = {"draws": controls(0.95)} if which == "draws" else {which: answers(0.55, N), "draws": controls()}
    made.arm(SUBSTITUTION, STYLE, distilled(0.95), **(GONE | raised))
    made.arm(ECHO, FUNCTION, distilled(0.8), draws=controls())
    made.arm(TOGETHER, BOTH, distilled(0.95), draws=controls(), **GONE)
    found = read(made)
    assert found.verdict == UNDETERMINED and found.arms[SUBSTITUTION].reading == "undetermined", words(found)


def test_10_plain_training_gains_as_much():
    for control in (0.78, 0.85):
        found = read(removals(study(control=control), 0.5, 0.5, 0.5))
        assert found.verdict == TRAINING and "control fine-tune" in found.why, words(found)


def test_11_greedy_decoding_leaves_no_gain():
    found = read(removals(study(0.99, 0.99, None), 0.99, 0.99, 0.99))
    assert found.verdict == NO_GAIN and "bound 0.05" in found.why, words(found)
    assert "gains 0.000" in found.why


# Twenty-odd more.


def test_the_base_loses_as_much_under_the_ban():
    made = study(0.4, 0.8, 0.4, **dict.fromkeys(WORKS, 0) | PLAIN)
    for name, claim in ((SUBSTITUTION, STYLE), (TOGETHER, BOTH)):
        made.arm(name, claim, distilled(0.6), base=answers(0.2, N, 4), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(0.8), draws=controls())
    found = read(made)
    assert found.verdict == UNDETERMINED and "of the gain 0.0" in found.why, words(found)


def test_the_control_fine_tune_loses_as_much_under_the_ban():
    """What plain training learned is no gain of the traces: distilled .8, control .6, both .2 less under the ban."""
    made = study(0.4, 0.8, 0.6, **dict.fromkeys(WORKS, 0) | PLAIN)
    for name, claim in ((SUBSTITUTION, STYLE), (TOGETHER, BOTH)):
        made.arm(name, claim, distilled(0.6), control=answers(0.4, N, 4), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(0.8), draws=controls())
    found = read(made)
    assert found.verdict == UNDETERMINED and "beyond the control fine-tune's" in found.why, words(found)


def test_the_control_fine_tune_and_the_base_under_the_edit_are_compared_with_themselves():
    """A control fine-tune of .6 that loses nothing takes nothing off the drop."""
    made = removals(study(0.4, 0.8, 0.6, **dict.fromkeys(WORKS, 0) | PLAIN), 0.6, 0.8, 0.6)
    assert read(made).verdict == STYLISTIC


def test_a_removal_that_was_not_run_on_the_base_says_no_drop_of_the_gain():
    made = study(**dict.fromkeys(WORKS, 0) | PLAIN)
    alone = {"said": {"models": ("distilled",)}}
    for name, claim, share in ((SUBSTITUTION, STYLE, 0.5), (ECHO, FUNCTION, 0.8), (TOGETHER, BOTH, 0.5)):
        made.arm(name, claim, distilled(share), draws=controls(), **({} if claim == FUNCTION else GONE), **alone)
    found = read(made)
    assert found.verdict == UNDETERMINED and "not run on the base" in found.why, words(found)


def test_a_removal_without_controls_says_no_drop():
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.5, 0.8, 0.5, style_draws=()))
    assert found.verdict == UNDETERMINED and "no matched controls" in found.why, words(found)


@pytest.mark.parametrize("ban", [0.5, 0.95])
def test_substitution_and_ban_disagree(ban):
    """Both did what they say; one costs nothing and the other .3 (or brings .15)."""
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.8, 0.8, 0.8, ban=ban))
    assert found.verdict == UNDETERMINED and "disagree" in found.why, words(found)


def test_two_removals_within_the_bound_agree_however_sure_each_is():
    """Substitution loses nothing, in no text; the ban .03, and its interval is apart from it."""
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.8, 0.8, 0.8, ban=0.77))
    losses = [found.arms[name].own for name in (SUBSTITUTION, BAN)]
    assert losses[0].high < losses[1].low and losses[1].high < found.bound
    assert found.verdict == DECORATIVE, words(found)


def test_an_open_substitution_is_not_outvoted_by_the_ban():
    """Substitution loses .03 [-.01, .07], which leaves it open but excludes the .3 of the ban."""
    made = study(**dict.fromkeys(WORKS, 0) | PLAIN)
    made.arm(SUBSTITUTION, STYLE, distilled(0.77, 60), draws=controls(), **GONE)
    made.arm(BAN, STYLE, distilled(0.5), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(0.8), draws=controls())
    made.arm(TOGETHER, BOTH, distilled(0.5), draws=controls(), **GONE)
    found = read(made)
    assert found.arms[SUBSTITUTION].reading == "undetermined"
    assert found.verdict == UNDETERMINED and "disagree" in found.why, words(found)


def test_equations_are_read_but_the_repairs_are_not():
    """No step is seen to be worked again, yet a tenth of the texts come right in spite of a wrong step."""
    wrong = (np.arange(N) < N // 10).astype(float)
    made = removals(study(**dict.fromkeys(WORKS, 0) | PLAIN | {"wrong": wrong}))
    found = read(made)
    assert found.verdict == UNDETERMINED and "could not be measured" in found.why, words(found)


def test_what_goes_unseen_is_worth_less_than_the_bound_of_a_small_gain():
    """Gain .06, so the bound is .02; 4 % come right in spite of a wrong step, which could be two thirds of the gain."""
    n = 1000
    wrong = (np.arange(n) < 0.04 * n).astype(float)
    made = removals(study(0.74, 0.8, 0.74, n, **dict.fromkeys(WORKS, 0) | PLAIN | {"wrong": wrong}), n=n)
    found = read(made)
    assert found.verdict == UNDETERMINED and "could not be measured" in found.why, words(found)
    large = removals(study(0.4, 0.8, 0.4, n, **dict.fromkeys(WORKS, 0) | PLAIN | {"wrong": wrong}), n=n)
    assert read(large).verdict == DECORATIVE


def test_the_function_was_not_removed():
    made = study()
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(0.8), draws=controls(), repaired=0.3, revised=0.3)
    made.arm(TOGETHER, BOTH, distilled(0.8), draws=controls(), **(GONE | ECHOED))
    found = read(made)
    assert found.verdict == UNDETERMINED and "the function stayed" in found.why, words(found)


def test_the_markers_vanish_with_the_function():
    made = study()
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm(ECHO, FUNCTION, distilled(0.5), draws=controls(), **(ECHOED | {"markers": 0.4}))
    made.arm(TOGETHER, BOTH, distilled(0.5), draws=controls(), **(GONE | ECHOED))
    found = read(made)
    assert found.verdict == UNDETERMINED and "the markers changed too" in found.why, words(found)


def test_an_edit_after_which_no_wrong_step_is_written_removes_no_function():
    """Nothing is repaired where nothing is wrong: the repairs' rate has no events left."""
    made = study()
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    none = {"wrong": 0.0, "repaired": 0.0, "redone": 0.0, "revised": 0.0}
    made.arm("ablate", FUNCTION, distilled(0.5), draws=controls(), **none)
    made.arm(TOGETHER, BOTH, distilled(0.5), draws=controls(), **(GONE | none))
    found = read(made)
    assert found.verdict == UNDETERMINED and "the wrong steps went too" in found.why, words(found)


def test_a_rare_function_is_not_kept_by_losing_most_of_it():
    """Repairs .12 to .03: nine points, within ten, and three quarters of what there was."""
    rare = {"wrong": 1.0, "repaired": 0.12, "redone": 1.0, "revised": 0.12}
    found = read(removals(study(**rare), 0.6, 0.6, 0.6, repaired=0.03, revised=0.03))
    assert found.verdict == UNDETERMINED and "0.120 to 0.030" in found.why, words(found)


def test_a_drop_that_lost_repairs_explain_is_not_the_style():
    """Repairs fall by nine points of 1.2 wrong steps a text: .108 of accuracy; the arm loses .12."""
    often = {"wrong": 1.2, "repaired": 0.96, "redone": 1.2, "revised": 0.96}
    made = removals(study(**often), 0.68, 0.5, 0.5, repaired=0.96 - 0.09 * 1.2)
    found = read(made)
    assert found.arms[SUBSTITUTION].passed
    assert found.verdict == UNDETERMINED and "repairs that are no longer made" in found.why, words(found)


@pytest.mark.parametrize(("both", "said"), [(0.8, "contradict"), (0.95, "rises"), (0.76, "is open")])
def test_the_removal_of_both_contradicts_the_others(both, said):
    plain = dict.fromkeys(WORKS, 0) | PLAIN
    for made in (removals(study(), 0.8, 0.5, both), removals(study(**plain), 0.5, 0.8, both)):
        found = read(made)
        assert found.verdict == UNDETERMINED and said in found.why, words(found)


def test_too_few_events_of_the_function():
    """29 of 600 texts work a step again: too many to call it absent, too few to measure it."""
    few = (np.arange(N) < 29).astype(float)
    found = read(removals(study(wrong=few, repaired=few, redone=few, revised=few), 0.8, 0.8, 0.8))
    assert found.verdict == UNDETERMINED, words(found)
    assert "too few steps worked again" in found.why
    assert any("29 steps" in problem for problem in found.arms[ECHO].failed)


def test_markers_that_are_hardly_there_leave_no_style_to_remove():
    rare = np.where(np.arange(N) < 5, 2.5, 0.0)
    made = removals(study(**dict.fromkeys(WORKS, 0) | {"markers": rare}), fired=(rare > 0).astype(int))
    found = read(made)
    assert found.verdict == UNDETERMINED and "fired 5 times, 30 are needed" in found.why, words(found)
    none = removals(study(**dict.fromkeys(WORKS, 0)), fired=0)
    assert "the edit never fired" in read(none).why


@pytest.mark.parametrize("stay", [{"markers": 1.0}, {"markers": 4.0}])
def test_the_markers_stayed(stay):
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), **stay))
    assert found.verdict == UNDETERMINED and "markers stayed" in found.why, words(found)


def test_prose_without_redone_steps_measures_nothing():
    """The style's removal costs nothing and nothing contradicts it, but whether checks were kept is not known."""
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN, text=PROSE), 0.5, 0.8, 0.5))
    assert found.verdict == UNDETERMINED and "could not be measured" in found.why, words(found)


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"length": 20}, "length changed"), ({"length": 90}, "length changed"), ({"repeats": 0.4}, "repeats itself")],
)
def test_a_removal_that_wrecks_the_text(columns, said):
    found = read(removals(study(**dict.fromkeys(WORKS, 0) | PLAIN), 0.4, 0.8, 0.4, **columns))
    assert found.verdict == UNDETERMINED and said in found.why, words(found)


def test_an_ablation_that_fails_where_there_is_no_function_is_damage():
    """A third of the texts works nothing again; there too accuracy falls by .3."""
    works = (np.arange(N) % 3 > 0).astype(float)
    made = study(wrong=works, repaired=works, redone=works, revised=works)
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    made.arm("ablate", FUNCTION, distilled(0.5), draws=controls(), **ECHOED)
    made.arm(TOGETHER, BOTH, distilled(0.5), draws=controls(), **(GONE | ECHOED))
    found = read(made)
    assert found.verdict == UNDETERMINED and "where nothing is to be removed" in found.why, words(found)


def test_the_perplexity_guard():
    made = study()
    made.arm(SUBSTITUTION, STYLE, distilled(0.8), draws=controls(), **GONE)
    for name, claim, more in (("steered", FUNCTION, {}), (TOGETHER, BOTH, GONE)):
        made.arm(name, claim, distilled(0.5), draws=controls(), said={"forced": False}, **(ECHOED | more))
    found = read(made, coherence={"steered": 2.0, TOGETHER: 1.1})
    assert found.verdict == UNDETERMINED and "the text is incoherent" in found.why, words(found)
    assert read(made, coherence={"steered": 1.2, TOGETHER: 1.1}).verdict == FUNCTIONAL


def test_opened_by_its_words_only_if_the_ban_did_nothing_else():
    """The ban ends the repairs, but also the texts: its loss says nothing of the words."""
    ends = (np.arange(N) % 2).astype(float)
    ban = {"right": 0.5, "repaired": 0.1, "redone": 0.2, "revised": 0.1, "finished": ends}
    found = read(removals(study(), 0.8, 0.55, 0.52, ban=ban))
    assert found.verdict == FUNCTIONAL, words(found)


def test_nothing_is_decorative_while_unlisted_words_could_stand_in_for_the_work():
    """No drop without the found words, none without the function; but both were removed with listed words only."""
    made = removals(study())
    made.arm(WIDE, STYLE, distilled(0.8), draws=controls(), said={"found": True}, **GONE)
    found = read(made, found=["hence"])
    assert found.verdict == UNDETERMINED and "together with the verification: hence" in found.why, words(found)
    made.arm(
        "both, with the unlisted", BOTH, distilled(0.45), draws=controls(), said={"found": True}, **(GONE | ECHOED)
    )
    assert read(made, found=["hence"]).verdict == REDUNDANT


def test_a_lexicon_that_covers_less_than_half_is_named_even_if_no_word_was_tried():
    found = read(removals(study()), coverage=0.4)
    assert found.verdict == UNDETERMINED and "40%" in found.why, words(found)


def test_a_gain_below_the_bound():
    found = read(removals(study(0.77, 0.8, None), 0.5, 0.5, 0.5))
    assert found.verdict == NO_GAIN and "bound 0.05" in found.why, words(found)


def test_a_model_worse_than_its_base():
    found = read(removals(study(0.8, 0.4, None), 0.3, 0.3, 0.3))
    assert found.verdict == NO_GAIN and "worse than its base" in found.why, words(found)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_answers_are_wrong_or_all_are_right(share):
    found = read(removals(study(share, share, None), share, share, share))
    assert found.verdict == NO_GAIN, words(found)
    assert isinstance(found.mediated, Refused)


@pytest.mark.parametrize("n", [1, 2, 8, 29])
@pytest.mark.parametrize("gained", [0.0, 1.0])
def test_studies_of_a_few_problems_say_so(n, gained):
    """Two problems, both gained and both lost without the words: no resample varies."""
    made = Table().untouched("distilled", np.full(n, gained), **PLAIN).untouched("base", np.zeros(n))
    for name, claim in ((SUBSTITUTION, STYLE), (ECHO, FUNCTION), (TOGETHER, BOTH)):
        right = np.full(n, gained if claim == FUNCTION else 0.0)
        made.arm(name, claim, right, draws=[np.full(n, gained)] * 3, fired=40, **({} if claim == FUNCTION else GONE))
    found = read(made)
    assert found.verdict == UNDETERMINED and f"Too few problems: {n}" in found.why, words(found)


@pytest.mark.parametrize(("n", "changed"), [(40, 0), (64, 1), (70, 1)])
def test_a_handful_of_problems_never_shows_that_nothing_is_lost(n, changed):
    """With one of 64 changed the resamples stay within five points, the truth need not: 8.4 points lose one of 64 or
    none in one study of forty."""
    plain = dict.fromkeys(WORKS, 0) | PLAIN
    made = Table().untouched("distilled", answers(0.75, n), **(WORKS | plain)).untouched("base", answers(0.25, n))
    lost = answers(0.75, n)
    lost[:changed] = 0.0
    for name, claim in ((SUBSTITUTION, STYLE), (ECHO, FUNCTION), (TOGETHER, BOTH)):
        made.arm(name, claim, lost, draws=[answers(0.75, n)] * 3, **({} if claim == FUNCTION else GONE))
    found = read(made)
    assert found.verdict == UNDETERMINED and "problems would decide" in found.why, words(found)


def test_without_a_control_fine_tune_the_verdict_says_what_is_missing():
    found = read(removals(study(control=None), 0.8, 0.55, 0.52))
    assert found.verdict == FUNCTIONAL and "Without a control fine-tune" in found.why, words(found)
    assert found.gain_over_control is None


def test_nothing_but_a_ban_was_run():
    found = read(study(**dict.fromkeys(WORKS, 0) | PLAIN).arm(BAN, STYLE, distilled(0.5), draws=controls(), **GONE))
    assert found.verdict == UNDETERMINED and "could not be removed here" in found.why, words(found)
    bare = read(study())
    assert bare.verdict == UNDETERMINED and "The style could not be removed" in bare.why
