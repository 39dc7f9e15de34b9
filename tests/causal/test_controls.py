import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.causal.controls import NEIGHBOURS, matched_latents, random_directions
from interp.causal.latent_sets import latent_arms, selected_latents


def latents(n=300, seed=0):
    rng = np.random.default_rng(seed)
    firing, norm = np.exp(rng.normal(-4, 1.5, n)), np.exp(rng.normal(0, 0.5, n))
    firing[rng.random(n) < 0.1] = 0.0
    return firing, norm


@given(seed=st.integers(0, 100), size=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_controls_are_live_and_not_selected_and_as_many(seed, size):
    firing, norm = latents(seed=seed)
    selected = np.random.default_rng(seed).choice(np.flatnonzero(firing), size, replace=False).tolist()
    sets = matched_latents(selected, firing, norm, 20, np.random.default_rng(seed))
    assert len(sets) == 20
    for chosen in sets:
        assert len(chosen) == len(set(chosen)) == size
        assert not set(chosen) & set(selected)
        assert (firing[chosen] > 0).all()


def test_each_control_is_among_the_nearest_of_its_latent():
    firing, norm = latents()
    alive = np.flatnonzero(firing > 0)
    spread = np.log(firing[alive]).std(), np.log(norm[alive]).std()
    selected = alive[::40].tolist()
    for chosen in matched_latents(selected, firing, norm, 30, np.random.default_rng(1)):
        for j, control in zip(selected, chosen, strict=True):
            distance = np.hypot(*(np.log(v[alive] / v[j]) / s for v, s in zip((firing, norm), spread, strict=True)))
            rank = np.argsort(np.argsort(distance))[np.searchsorted(alive, control)]
            # Selected latents and those drawn before are left out.
            assert rank <= NEIGHBOURS + 2 * len(selected)


def test_controls_match_in_frequency_where_frequencies_part():
    """Two populations a thousand times apart in frequency: rare latents get rare controls, frequent ones frequent."""
    rng = np.random.default_rng(0)
    firing = np.concatenate([rng.uniform(1e-4, 2e-4, 60), rng.uniform(0.1, 0.2, 60)])
    norm = rng.uniform(0.9, 1.1, 120)
    for chosen in matched_latents([0, 1, 2, 60, 61], firing, norm, 40, rng):
        assert [c < 60 for c in chosen] == [True, True, True, False, False]


@given(seed=st.integers(0, 1000), size=st.integers(2, 10))
@settings(max_examples=25, deadline=None)
def test_controls_are_nearer_in_frequency_and_in_norm_than_random_draws(seed, size):
    """The mean distance in log frequency, and that in log norm, of each control from its latent, against any live
    latent's from it. Latents at the edge of the cloud have no near neighbours, so they are chosen from its middle."""
    firing, norm = latents(600, seed=seed)
    rng = np.random.default_rng(seed)
    middle = [
        np.flatnonzero((firing > 0) & (abs(np.log(v) - m) < s))
        for v, m, s in ((np.maximum(firing, 1e-9), -4, 1.5), (norm, 0, 0.5))
    ]
    selected = rng.choice(np.intersect1d(*middle), size, replace=False)
    alive = np.flatnonzero(firing > 0)
    sets = matched_latents(selected.tolist(), firing, norm, 20, rng)
    for values in (firing, norm):
        logs = np.log(values, where=values > 0, out=np.zeros(len(values)))
        matched = np.mean([abs(logs[chosen] - logs[selected]).mean() for chosen in sets])
        at_random = abs(logs[alive][:, None] - logs[selected][None]).mean()
        assert matched < 0.6 * at_random


@pytest.mark.parametrize("apart", ["norm", "frequency"])
def test_where_near_ones_exist_no_control_is_far_in_either(apart):
    """Two populations equal in one of the two and ten times apart in the other: a control comes from its latent's."""
    rng = np.random.default_rng(0)
    alike, two = rng.uniform(0.9, 1.1, 120), np.r_[rng.uniform(0.01, 0.011, 60), rng.uniform(0.1, 0.11, 60)]
    firing, norm = (alike / 100, two) if apart == "norm" else (two, alike)
    for chosen in matched_latents([0, 70, 1, 71], firing, norm, 40, rng):
        assert [c < 60 for c in chosen] == [True, False, True, False]


def test_a_latent_of_norm_zero_or_that_never_fires_is_no_control():
    firing, norm = np.full(30, 0.1), np.full(30, 1.0)
    firing[:10], norm[10:20] = 0.0, 0.0
    drawn = {j for chosen in matched_latents([20, 21], firing, norm, 50, np.random.default_rng(0)) for j in chosen}
    assert drawn <= set(range(22, 30))
    assert len(drawn) > 5


def test_where_there_are_too_few_latents_sets_are_smaller():
    firing, norm = np.full(5, 0.1), np.full(5, 1.0)
    for chosen in matched_latents([0, 1, 2], firing, norm, 10, np.random.default_rng(0)):
        assert sorted(chosen) == [3, 4]


def test_draws_differ_and_are_the_same_for_the_same_seed():
    firing, norm = latents()
    one, two = (matched_latents([1, 2, 3], firing, norm, 20, np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert len({tuple(s) for s in one}) > 10


def test_random_directions_have_the_norm_and_no_common_direction():
    like = torch.arange(64).float()
    drawn = random_directions(like, 200, seed=0)
    torch.testing.assert_close(drawn.norm(dim=1), like.norm().expand(200))
    assert float(drawn.mean(0).norm() / like.norm()) < 0.15
    cosine = drawn @ like / like.norm() ** 2
    assert float(cosine.abs().max()) < 0.6
    assert torch.equal(drawn, random_directions(like, 200, seed=0))


def table():
    firing, norm = latents(120)
    n = len(firing)
    reflection, verification = np.isin(np.arange(n), [4, 5, 6]), np.isin(np.arange(n), [6, 7])
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "latent": np.arange(n),
            "firing_rate": np.where(reflection | verification, 0.05, firing),
            "decoder_norm": norm,
            "confirmed_reflection": reflection,
            "confirmed_verification": verification,
            "auroc_confirm_reflection": rng.uniform(0.5, 0.6, n) + np.where(np.arange(n) == 5, 0.3, 0.0),
            "auroc_confirm_verification": rng.uniform(0.5, 0.6, n),
        }
    )


def test_selection_takes_the_best_confirmed_and_leaves_out_empty_behaviours():
    latents = table()
    chosen = selected_latents(latents, 2)
    assert chosen["reflection"][0] == 5
    assert len(chosen["reflection"]) == 2
    assert set(chosen["verification"]) == {6, 7}
    none = latents.with_columns(confirmed_reflection=pl.lit(False))
    assert set(selected_latents(none, 2)) == {"verification"}


@pytest.mark.parametrize("column", ["firing_rate", "decoder_norm"])
def test_the_arms_controls_are_matched_on_the_tables_columns(column):
    """Latents 0 to 59 are rare (or small) and 60 to 119 a hundred times more; those of reflection are of the first,
    those of verification of the second kind."""
    rng = np.random.default_rng(0)
    two = np.r_[rng.uniform(0.001, 0.002, 60), rng.uniform(0.1, 0.2, 60)]
    columns = {"firing_rate": np.full(120, 0.01), "decoder_norm": np.ones(120)} | {column: two}
    latents = table().with_columns(pl.Series(name, values) for name, values in columns.items())
    arms = latent_arms(latents, {"reflection": [0, 1], "verification": [60, 61]}, 3.0, 30, seed=0)
    for arm in arms:
        for chosen in arm.controls:
            assert [j < 60 for j in chosen] == ["reflection" in arm.name] * 2


def test_ablation_and_amplification_have_the_same_controls_and_seeds_differ():
    latents = table()
    first, second, *_ = latent_arms(latents, selected_latents(latents, 12), 3.0, 25, seed=0)
    assert first.controls == second.controls
    assert latent_arms(latents, selected_latents(latents, 12), 3.0, 25, seed=0)[0] == first
    assert latent_arms(latents, selected_latents(latents, 12), 3.0, 25, seed=1)[0].controls != first.controls


def test_arms_ablate_and_amplify_and_no_selected_latent_is_a_control():
    latents = table()
    arms = latent_arms(latents, selected_latents(latents, 12), 3.0, 25, seed=0)
    assert [(a.name, a.factor) for a in arms] == [
        ("ablate reflection latents", 0.0),
        ("amplify reflection latents", 3.0),
        ("ablate verification latents", 0.0),
        ("amplify verification latents", 3.0),
    ]
    for arm in arms:
        assert len(arm.controls) == 25
        assert not {4, 5, 6, 7} & {j for chosen in arm.controls for j in chosen}
        assert all(len(chosen) == len(arm.latents) for chosen in arm.controls)
