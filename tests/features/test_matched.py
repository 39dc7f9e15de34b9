"""Control latents are matched in what decides the size of an edit, where it is made."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.features.matched import CALLIPER, NEIGHBOURS, SAME, Matched, alike, as_long, matched_latents


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
    for chosen in map(list, drawn.sets):
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
    for chosen in matched_latents([0, 70, 1, 71], firing, size, 40, 0).sets:
        assert [c < 60 for c in chosen] == [True, False, True, False]


def test_each_control_is_among_the_nearest_of_its_latent():
    firing, size = latents()
    alive = np.flatnonzero(firing > 0)
    spread = np.log(firing[alive]).std(), np.log(size[alive]).std()
    selected = alive[::40].tolist()
    drawn = matched_latents(selected, firing, size, 30, 1).sets
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
    assert len(drawn.sets) == 25
    assert all(j % 3 for chosen in drawn.sets for j in chosen)
    size[3:] = 20.0
    none = matched_latents([1, 2], firing, size, 25, 0)
    assert none.sets == [] and "no set of 2" in none.note and "factor 2" in none.note


def test_the_balance_is_reported():
    firing, size = np.full(60, 0.1), np.ones(60)
    firing[2:], size[2:] = 0.05, 0.75
    note = matched_latents([0, 1], firing, size, 20, 0).note
    assert "frequency 0.50, size 0.75" in note and "different latents of 58" in note
    size[5:] = 9.0
    short = matched_latents([0, 1], firing, size, 500, 0)
    assert f"{500 - len(short.sets)} of 500 controls write the same change" in short.note and 0 < len(short.sets) < 500


def test_a_latent_that_never_fires_where_edits_are_made_is_no_control_and_has_none():
    firing, size = np.full(30, 0.1), np.ones(30)
    firing[:10], size[10:20] = 0.0, 0.0
    drawn = {j for chosen in matched_latents([20, 21], firing, size, 50, 0).sets for j in chosen}
    assert drawn <= set(range(22, 30)) and len(drawn) > 5
    assert matched_latents([0], firing, size, 5, 0).sets == []


def test_where_none_moves_the_residual_as_far_the_same_change_is_written_elsewhere():
    """One latent is ten times as large as any other."""
    firing, size = np.full(80, 0.1), np.ones(80)
    size[0], firing[70:] = 10.0, 0.0
    drawn = matched_latents([0], firing, size, 30, 0, never=[3])
    assert drawn.sets == [] and len(set(drawn.along)) == 30
    assert all(len(along) == 1 for along in drawn.along)
    assert {along[0] for along in drawn.along} <= {*range(1, 70)} - {3}, "of those that fire there"
    assert "no set of 1 of 68" in drawn.note and "30 of 30 controls write the same change" in drawn.note
    many = matched_latents([0], firing, size, 100, 0, never=[3])
    assert len(many.along) == 68 and many.note.endswith("68 of 100 draws")


def test_the_change_is_written_elsewhere_only_to_make_up_the_number():
    """Two of the others are as large: they are drawn first."""
    firing, size = np.full(60, 0.1), np.full(60, 0.3)
    size[:3] = 1.0
    drawn = matched_latents([0], firing, size, 40, 0)
    assert sorted(drawn.sets) == [(1,), (2,)] and len(drawn.along) == 38


def test_controls_are_the_sets_and_then_the_changes_written_elsewhere():
    drawn = Matched([(1, 2), (3, 4)], [(5, 6)], "")
    assert drawn.controls(lambda j: ("set", j), lambda j: ("along", j)) == [
        ("set", (1, 2)),
        ("set", (3, 4)),
        ("along", (5, 6)),
    ]


def test_directions_are_given_the_length_of_others():
    got = as_long(
        torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -1.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]])
    )
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -5.0]]))


def test_draws_differ_and_are_the_same_for_the_same_seed():
    firing, size = latents()
    one, two, three = (matched_latents([1, 2, 3], firing, size, 20, seed).sets for seed in (5, 5, 6))
    assert one == two != three
    assert len({frozenset(chosen) for chosen in one}) == 20, "none is drawn twice"
    firing[4:], size[0], size[4:] = 0.1, 1e-3, 1e-3
    one, two, three = (matched_latents([1, 2, 3], firing, size, 20, seed).along for seed in (5, 5, 6))
    assert one == two != three and len(set(one)) == 20


def test_what_was_drawn_before_is_redrawn():
    """A latent has few neighbours of its size; each is one draw, in whatever order a set of them was drawn."""
    firing, size = latents()
    drawn = matched_latents([4], firing, size, 60, 0)
    assert 0 < len(drawn.sets) <= NEIGHBOURS and len(set(drawn.sets)) == len(drawn.sets)
    assert len(drawn.sets) + len(drawn.along) == 60
    pairs = matched_latents([4, 5], firing, size, 60, 0).sets
    assert len({frozenset(chosen) for chosen in pairs}) == len(pairs)


def test_latents_that_point_the_same_way_either_way_are_alike():
    decoder = torch.eye(6)[:, :4].clone() * torch.arange(1.0, 7.0)[:, None]
    decoder[1] = torch.tensor([-1.0, 1.7, 0.0, 0.0])  # cosine -.507 with the first
    decoder[2] = torch.tensor([1.0, 0.0, 1.8, 0.0])  # .486
    decoder[3] = torch.tensor([9.0, 0.0, 0.0, 1.0])
    assert alike(decoder, [0]) == [0, 1, 3]
    assert alike(decoder, [0, 5]) == [0, 1, 3, 5], "a decoder of zeros lies along nothing, and is itself"
    assert alike(decoder, []) == []


@given(seed=st.integers(0, 50), k=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_no_control_is_alike(seed, k):
    firing, size = np.full(60, 0.1), np.ones(60)
    decoder = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
    selected = list(range(k))
    barred = alike(decoder, selected)
    drawn = matched_latents(selected, firing, size, 20, seed, never=barred)
    unit = decoder / decoder.norm(dim=1, keepdim=True)
    for chosen in [*drawn.sets, *drawn.along]:
        assert (unit[list(chosen)] @ unit[selected].T).abs().max() < SAME
