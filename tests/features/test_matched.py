"""Control latents are matched in what decides the size of an edit, where it is made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.features.matched import CALLIPER, NEIGHBOURS, matched_latents


def latents(n=300, seed=0):
    rng = np.random.default_rng(seed)
    firing, size = np.exp(rng.normal(-4, 1.0, n)), np.exp(rng.normal(0, 0.5, n))
    firing[rng.random(n) < 0.1] = 0.0
    return firing, size


@given(seed=st.integers(0, 100), k=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_every_set_is_alive_as_large_not_barred_and_within_the_calliper(seed, k):
    firing, size = latents(seed=seed)
    rng = np.random.default_rng(seed)
    selected, *_ = np.split(rng.permutation(np.flatnonzero(firing)), [k])
    never = np.flatnonzero(firing)[::7].tolist()
    drawn = matched_latents(selected.tolist(), firing, size, 20, seed, never=never)
    wanted = size[selected].sum()
    for chosen in map(list, drawn.draws):
        assert len(set(chosen)) == k
        assert not set(chosen) & {*selected.tolist(), *never}
        assert (firing[chosen] > 0).all()
        assert wanted / CALLIPER <= size[chosen].sum() <= CALLIPER * wanted


@pytest.mark.parametrize("apart", ["size", "firing"])
def test_where_near_ones_exist_no_control_is_far_in_either(apart):
    """Two populations equal in one of the two and a hundred times apart in the other."""
    rng = np.random.default_rng(0)
    alike, two = rng.uniform(0.9, 1.1, 120), np.r_[rng.uniform(0.001, 0.0011, 60), rng.uniform(0.1, 0.11, 60)]
    firing, size = (alike / 100, two) if apart == "size" else (two, alike)
    for chosen in matched_latents([0, 70, 1, 71], firing, size, 40, 0).draws:
        assert [c < 60 for c in chosen] == [True, False, True, False]


def test_each_control_is_among_the_nearest_of_its_latent():
    firing, size = latents()
    alive = np.flatnonzero(firing > 0)
    spread = np.log(firing[alive]).std(), np.log(size[alive]).std()
    selected = alive[::40].tolist()
    drawn = matched_latents(selected, firing, size, 30, 1).draws
    assert drawn
    for chosen in drawn:
        for j, control in zip(selected, chosen, strict=True):
            distance = np.hypot(*(np.log(v[alive] / v[j]) / s for v, s in zip((firing, size), spread, strict=True)))
            rank = np.argsort(np.argsort(distance))[np.searchsorted(alive, control)]
            assert rank <= NEIGHBOURS + 2 * len(selected)


def test_sets_outside_the_calliper_are_redrawn_and_where_none_fits_the_note_says_so():
    """One neighbour in three is twenty times as large: sets that hold it are thrown away."""
    firing, size = np.full(40, 0.1), np.ones(40)
    size[::3] = 20.0
    drawn = matched_latents([1, 2], firing, size, 25, 0)
    assert len(drawn.draws) == 25
    assert all(j % 3 for chosen in drawn.draws for j in chosen)
    size[3:] = 20.0
    none = matched_latents([1, 2], firing, size, 25, 0)
    assert none.draws == [] and "no set of 2" in none.note and "factor 2" in none.note


def test_the_balance_is_reported():
    firing, size = np.full(60, 0.1), np.ones(60)
    firing[2:], size[2:] = 0.05, 0.75
    note = matched_latents([0, 1], firing, size, 20, 0).note
    assert "frequency 0.50, size 0.75" in note and "different latents of 58" in note
    size[5:] = 9.0
    short = matched_latents([0, 1], firing, size, 500, 0).note
    assert "of 500 draws within the calliper" in short


def test_a_latent_that_never_fires_where_edits_are_made_is_no_control_and_has_none():
    firing, size = np.full(30, 0.1), np.ones(30)
    firing[:10], size[10:20] = 0.0, 0.0
    drawn = {j for chosen in matched_latents([20, 21], firing, size, 50, 0).draws for j in chosen}
    assert drawn <= set(range(22, 30)) and len(drawn) > 5
    assert matched_latents([0], firing, size, 5, 0).draws == []


def test_where_none_moves_the_residual_as_far_several_latents_do_together():
    """One latent is ten times as large as any other: ten of the nearest make up its size."""
    firing, size = np.full(80, 0.1), np.ones(80)
    size[0] = 10.0
    drawn = matched_latents([0], firing, size, 30, 0)
    assert len(drawn.draws) == 30
    assert {len(chosen) for chosen in drawn.draws} == {10}, "grown until its size is reached, and no further"
    assert all(len(set(chosen)) == len(chosen) and 0 not in chosen for chosen in drawn.draws)
    assert len(set(drawn.draws)) == 30 and "sets of up to 10 latents" in drawn.note
    size[0] = 100.0
    assert matched_latents([0], firing, size, 30, 0).draws == [], "the nearest are too small together"


def test_larger_sets_only_fill_up():
    """Two of the others are as large: they are drawn first, and small ones only in sets that are large enough."""
    firing, size = np.full(60, 0.1), np.full(60, 0.3)
    size[:3] = 1.0
    drawn = matched_latents([0], firing, size, 40, 0)
    alone = [chosen for chosen in drawn.draws if len(chosen) == 1]
    assert {chosen[0] for chosen in alone} == {1, 2}
    assert all(0.5 <= size[list(chosen)].sum() <= 2.0 for chosen in drawn.draws)


def test_draws_differ_and_are_the_same_for_the_same_seed():
    firing, size = latents()
    one, two, three = (matched_latents([1, 2, 3], firing, size, 20, seed).draws for seed in (5, 5, 6))
    assert one == two != three
    assert len({frozenset(chosen) for chosen in one}) == 20, "none is drawn twice"


def test_what_was_drawn_before_is_redrawn_and_larger_sets_make_up_the_number():
    """A latent has few neighbours of its size; each is one draw, in whatever order a set of them was drawn."""
    firing, size = latents()
    drawn = matched_latents([4], firing, size, 60, 0).draws
    assert len({frozenset(chosen) for chosen in drawn}) == len(drawn)
    assert sum(len(chosen) == 1 for chosen in drawn) <= NEIGHBOURS
