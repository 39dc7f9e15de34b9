"""Deciding latents on decisions that are linear in the residual: the set, its effect, and every reason to refuse it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from interp.features.selection import (
    DAMAGE,
    DAMAGE_KL,
    GONE,
    MOST,
    QUARTER,
    candidates,
    confirm,
    harmful,
    rank,
    smallest_set,
)
from tests.features.decisions import SLOT, D, linear_decision

ROWS = 200


def codes(strength, seed=0, fires=0.5):
    """Codes of both sides: latents 0 and 1 fire on the positive side alone, all others at random on both."""
    generator = torch.Generator().manual_seed(seed)
    f = torch.where(torch.rand(2, ROWS, D, generator=generator) < fires, strength, 0.0)
    f[0, :, :2], f[1, :, :2] = strength, 0.0
    return f


def weights(*first):
    w = torch.zeros(D)
    w[: len(first)] = torch.tensor(first)
    return w


@pytest.fixture
def planted():
    """Latents 0 and 1 add 6 and 4 nats to a margin that is -5 without them (.25 · 5 of the error are in it)."""
    f = codes(4.0)
    return linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)


def test_effects_and_shares_are_the_latents_own(planted):
    ranked = rank(planted)
    assert ranked.table["latent"].to_list()[:2] == [0, 1]
    for column in ("attribution", "contrast", "effect"):
        assert ranked.table[column].to_list()[:2] == pytest.approx([6.0, 4.0], abs=1e-4)
        assert ranked.table[column].to_list()[2:] == pytest.approx([0.0] * (D - 2), abs=1e-4)
    assert ranked.table["rate_positive"].to_list()[:2] == [1.0, 1.0]
    assert ranked.table["rate_negative"].to_list()[:2] == [0.0, 0.0]
    assert (ranked.gap, ranked.explained) == (pytest.approx(10.0, abs=1e-4), pytest.approx(10.0, abs=1e-3))


def test_what_fires_on_both_sides_alike_tells_nothing_apart_however_much_its_ablation_does():
    f = codes(4.0)
    f[:, :, 2] = 4.0
    ranked = rank(linear_decision(f[0], f[1], weights(3.0, 2.0, 5.0)))
    third = ranked.table.row(by_predicate=pl.col("latent") == 2, named=True)
    assert third["attribution"] == pytest.approx(10.0, abs=1e-3)
    assert (third["effect"], third["contrast"]) == (pytest.approx(0.0, abs=1e-3), pytest.approx(0.0, abs=1e-4))
    assert ranked.explained == pytest.approx(ranked.gap, abs=1e-3)


def test_the_rank_correlation_is_spearmans():
    """In a linear decision attribution is the effect, so that the ranks agree but for latents without any."""
    f = codes(4.0, fires=0.7)
    ranked = rank(linear_decision(f[0], f[1], torch.linspace(0.1, 3.0, D)))
    assert ranked.correlation == pytest.approx(1.0)
    assert np.isnan(rank(linear_decision(f[0], f[1], torch.zeros(D))).correlation)


def test_the_set_is_the_smallest_that_takes_the_onset_away(planted):
    """With latent 0 alone the margin is -1, p = .27; with both it is -5, p = .0067."""
    assert smallest_set(planted, [0, 1, 5, 6]) == (0, 1)
    assert smallest_set(planted, [0]) == (0,)
    other = linear_decision(*codes(4.0)[:2], weights(6.0, 2.0), bias=-8.0)
    assert smallest_set(other, [0, 1]) == (0,)


def test_latents_that_say_the_same_do_not_hide_each_other():
    """Latents 0 and 1 add 12 nats each to a margin of -5, which 5 bounds from above: either alone changes nothing. The
    first of those that change nothing is taken and given up again."""
    f = codes(4.0)
    twice = linear_decision(f[0], f[1], weights(6.0, 6.0), bias=-8.0, cap=5.0)
    assert smallest_set(twice, [0]) == smallest_set(twice, [1, 5]) == ()
    assert smallest_set(twice, [5, 0, 6, 1]) == (0, 1)


def test_what_was_chosen_first_is_given_up_for_a_smaller_set():
    """Latents 0, 1 and 2 add 40 nats to three, one and one fifth of the places and are chosen for it; none of them can
    be given up. Latent 3 adds 9 to the last 23 fortieths, where that begins it too: with 0 it leaves an eighth."""
    f = torch.zeros(2, ROWS, D)
    f[0, :60, 0] = f[0, 100:160, 0] = f[0, 60:100, 1] = f[0, 160:, 2] = 40.0
    f[0, 85:, 3] = 9.0
    f[0, :, 20] = f[0, :, :4].sum(1) - 11  # so that the margin is 6 at every place, and -5 before the other side
    w = torch.zeros(D)
    w[:4], w[20] = 2.0, -2.0
    overlapping = linear_decision(f[0], f[1], w, bias=-6.5)
    assert smallest_set(overlapping, [0, 1, 2]) == (0, 1, 2)
    assert set(smallest_set(overlapping, [0, 1, 2, 3])) == {0, 3}


def test_where_the_goal_is_not_reached_the_set_is_of_those_that_do_something():
    f = codes(4.0)
    strong = linear_decision(f[0], f[1], weights(*[0.5] * 20), bias=90.0)
    assert smallest_set(strong, [7, 1, 30, 0, 31]) == (1, 0), "of 2 to 19 each does as much before either side"
    unmoved = linear_decision(*codes(4.0), weights(), bias=3.0)
    assert smallest_set(unmoved, list(range(30))) == ()
    everywhere = linear_decision(f[0], f[1], weights(*[0.0] * 2, *torch.linspace(2.0, 1.0, 38).tolist()), bias=90.0)
    assert len(smallest_set(everywhere, list(range(30)))) <= MOST


def test_a_planted_set_is_located_beyond_all_matched_sets(planted):
    found = confirm(planted, [0, 1], planted.level, seed=0)
    assert found.located, found.why
    assert found.latents == (0, 1) and found.pairs == ROWS
    assert found.onset == pytest.approx(torch.sigmoid(torch.tensor(5.0)).item(), abs=1e-4)
    assert found.onset_ablated == pytest.approx(torch.sigmoid(torch.tensor(-5.0)).item(), abs=1e-4)
    assert found.false_alarm == pytest.approx(found.onset_ablated, abs=1e-4), "the negative side lacks them already"
    assert found.false_alarm_ablated == pytest.approx(found.false_alarm, abs=1e-6)
    assert found.kl_negative == pytest.approx(0.0, abs=1e-6)
    assert len(found.controls) == 100 and found.controls == pytest.approx([found.onset] * 100, abs=1e-4)
    assert found.p == pytest.approx(1 / 101)
    assert "beyond all 100 controls" in found.why and f"{found.onset:.3f} to {found.onset_ablated:.3f}" in found.why


def test_what_would_not_move_on_the_positive_side_is_no_control():
    """Latents 2 to 9 are always there at their level: setting them back is nothing."""
    f = codes(4.0)
    f[:, :, 2:10] = 4.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)
    assert f"of {D - 10} that fire there" in confirm(decision, [0, 1], decision.level, seed=0).match


def test_what_writes_the_same_is_no_control():
    """Latent 2 writes what latent 0 writes, and latent 3 the opposite: their edits would be that of latent 0."""
    f = codes(4.0)
    planted = linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)
    W_dec = planted.crosscoder.W_dec
    W_dec[2, SLOT], W_dec[3, SLOT] = W_dec[0, SLOT], -2 * W_dec[1, SLOT]
    assert f"of {D - 4} that fire there" in confirm(planted, [0, 1], torch.zeros(D), seed=0).match


def refused(decision, latents=(0, 1), level=None, **given):
    found = confirm(decision, latents, decision.level if level is None else level, seed=0, **given)
    assert not found.located
    return found


def test_a_set_that_leaves_more_than_a_quarter_is_none(planted):
    found = refused(planted, [0])
    assert found.onset_ablated > QUARTER * found.onset
    assert found.why == "1 latent set back: 0.269 of 0.993 is left of the onset on the other half (25% asked)"


def test_ablation_that_makes_it_check_right_steps_is_none():
    """Latent 2 holds the checks back on the negative side, and on the positive one is outweighed."""
    f = codes(4.0)
    f[0, :, 2], f[1, :, 2] = 0.0, 4.0
    decision = linear_decision(f[0], f[1], weights(8.0, 2.0, -6.0), bias=-3.0)
    found = refused(decision, (0, 1, 2), torch.zeros(D))
    assert found.false_alarm_ablated - found.false_alarm > DAMAGE
    assert found.why.startswith("setting them back brings the onset about on the negative side: 0.119, was 0.000")


def test_where_no_set_is_as_large_the_same_change_is_written_along_others(planted):
    """Latents 0 and 1 are ten times as strong as all others, which the margin does not read."""
    f = codes(0.4)
    f[0, :, :2] = 4.0
    found = confirm(linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25), [0, 1], torch.zeros(D), seed=0)
    assert found.located and len(found.controls) == 100
    assert found.controls == pytest.approx([found.onset] * 100, abs=1e-4), "no other direction moves the margin"
    f[0, :, 2], every = 0.4, weights(3.0, 2.0, 30.0)
    felt = confirm(linear_decision(f[0], f[1], every, bias=-17.25), [0, 1], torch.zeros(D), seed=0)
    assert min(felt.controls) < 1e-6, "a tenth as strong, latent 2 is read ten times as much: its direction counts"
    assert not felt.located and "a control leaves" in felt.why


def test_too_few_matched_sets_are_none(planted):
    quiet, other = (replace(side, f=side.f.clone()) for side in (planted.positive, planted.negative))
    quiet.f[:, 2:], other.f[:, 2:] = 0.0, 0.0
    found = refused(replace(planted, positive=quiet, negative=other))
    assert found.controls == () and found.p is None
    assert found.why.startswith("0 of 100 controls: no set of 2")


def test_a_matched_set_that_does_as_much_is_enough_to_refuse():
    """The decision is carried by latent 2 as well, which fires as often and as strongly: some sets hold it."""
    f = codes(4.0)
    f[0, :, 2], f[1, :, 2] = 4.0, 0.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0, 20.0), bias=-6.25 - 45.0)
    found = refused(decision)
    n = sum(control <= found.onset_ablated for control in found.controls)
    assert 0 < n < 100 and found.p == pytest.approx((1 + n) / 101)
    assert found.why.startswith(f"a control leaves {min(found.controls):.3f}")


def test_draws_follow_the_seed(planted):
    f = codes(4.0, fires=0.6)
    decision = linear_decision(f[0], f[1], torch.linspace(3.0, 0.0, D), bias=-75.0)
    one, two, three = (confirm(decision, [0, 1], decision.level, seed).controls for seed in (5, 5, 6))
    assert one == two != three


def test_the_choice_is_stricter_than_the_claim():
    assert GONE < QUARTER


def test_latents_are_set_back_and_not_to_zero():
    """Latent 2 fires on both sides, more after wrong steps, and is needed on both; latent 3 fires on the negative side
    alone and pushes away from an onset."""
    f = codes(4.0)
    f[0, :, 2], f[1, :, 2] = 6.0, 4.0
    f[0, :, 3], f[1, :, 3] = 0.0, 4.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0, 5.0, -2.0), bias=-16.0)
    ranked = rank(decision)
    rows = {row["latent"]: row for row in ranked.table.head(4).iter_rows(named=True)}
    assert {j: round(row["effect"], 2) for j, row in rows.items()} == {0: 6.0, 1: 4.0, 2: 5.0, 3: 4.0}
    assert {j: round(row["level"], 2) for j, row in rows.items()} == {0: 0.0, 1: 0.0, 2: 4.0, 3: 4.0}
    assert candidates(ranked)[:2] == [0, 2] and sorted(candidates(ranked)) == [0, 1, 2, 3]
    found = confirm(decision, [0, 1, 2, 3], decision.level, seed=0)
    assert found.levels == pytest.approx((0.0, 0.0, 4.0, 4.0))
    assert found.onset_ablated == pytest.approx(found.false_alarm, abs=1e-4), "all that tells the sides apart is gone"
    assert found.kl_negative == pytest.approx(0.0, abs=1e-6), "and nothing else"


def test_a_latent_of_little_effect_is_no_candidate():
    f = codes(4.0)
    f[0, :, 2], f[1, :, 2] = 0.4, 0.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0, 1.0), bias=-6.5)
    ranked = rank(decision)
    assert ranked.table["effect"].to_list()[2] == pytest.approx(0.2, abs=1e-3), "of a gap of 10.2"
    assert candidates(ranked) == [0, 1]


def test_what_changes_how_right_steps_go_on_is_refused():
    """Latent 2 is on both sides and keeps a third token away; at zero that one follows right steps. Whatever is done to
    the decision itself is no harm."""
    f = codes(4.0)
    f[:, :, 2] = 4.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25, aside=weights(0.0, 0.0, -4.0))
    found = refused(decision, [0, 1, 2], torch.zeros(D))
    assert "changes what follows the negative side too" in found.why and found.kl_negative > DAMAGE_KL
    before, after = (torch.tensor([0.0, x]).log_softmax(0) for x in (-9.0, -1.0))
    assert found.kl_negative == pytest.approx(float((before.exp() * (before - after)).sum()), rel=1e-3)
    assert confirm(decision, [0, 1], torch.zeros(D), seed=0).kl_negative == pytest.approx(0.0, abs=1e-6)


def test_latents_that_break_what_follows_right_steps_are_no_control():
    """Latent 7 keeps a third token away on both sides: at zero that one follows right steps. Latent 8 does the same to
    the onset alone, which is no harm of this kind."""
    f = codes(4.0)
    f[:, :, 7] = 4.0
    f[1, :, 8] = 4.0
    aside = torch.zeros(D)
    aside[7] = -4.0
    decision = linear_decision(f[0], f[1], weights(3.0, 2.0, *[0.0] * 6, -1.0), bias=-6.25, aside=aside)
    assert harmful(decision, torch.zeros(D)) == [7]
    assert harmful(decision, decision.level) == [], "set back to what it is there, it does nothing"
    assert harmful(decision, torch.zeros(D), most=0) == []
    drawn = confirm(decision, [0, 1], torch.zeros(D), seed=0, never=range(2, 30)).match
    assert "of 10 that fire there" in drawn or "of 10 latents that fire there" in drawn
