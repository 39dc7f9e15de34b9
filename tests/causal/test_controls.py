import numpy as np
import polars as pl
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
            # Selected ones and those drawn before stand aside.
            assert rank <= NEIGHBOURS + 2 * len(selected)


def test_controls_match_in_frequency_where_frequencies_part():
    """Two populations a thousand times apart in frequency: rare latents get rare controls, frequent ones frequent."""
    rng = np.random.default_rng(0)
    firing = np.concatenate([rng.uniform(1e-4, 2e-4, 60), rng.uniform(0.1, 0.2, 60)])
    norm = rng.uniform(0.9, 1.1, 120)
    for chosen in matched_latents([0, 1, 2, 60, 61], firing, norm, 40, rng):
        assert [c < 60 for c in chosen] == [True, True, True, False, False]


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
