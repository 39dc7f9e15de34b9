"""The arms on a decision's latents: the same ablation where it should act and where it should not, beside its match."""

import numpy as np
import pytest
from small import small_crosscoder

from interp.causal.circuit_arms import circuit_arms
from interp.causal.edits.latents import Scale
from interp.causal.places import FORKS, after_first
from interp.causal.study_arms import Sizes
from interp.models.hooks import Site

SITE, EVERYWHERE = Site(2, "resid_mid"), after_first(2)
AT_FORKS = EVERYWHERE & FORKS


def arms(latents=(3, 5), order=(3, 5, 7, 9, 1), n_latents=60, draws=20):
    cc = small_crosscoder(n_latents=n_latents)
    firing, size = np.full(n_latents, 0.1), np.ones(n_latents)
    firing[40:], size[40:] = 0.0, 0.0
    return circuit_arms(
        "deciding", Scale(SITE, cc, latents), order, EVERYWHERE, firing, size, Sizes(draws, 8, 0), problems=16
    )


@pytest.fixture
def by_name():
    return {arm.name: arm for arm in arms()}


def test_the_names_and_where_each_acts(by_name):
    assert {name: arm.edit.where.name for name, arm in by_name.items()} == {
        "deciding latents to zero at forks": AT_FORKS.name,
        "deciding latents to zero everywhere": EVERYWHERE.name,
        "deciding latents to zero elsewhere": (EVERYWHERE & ~FORKS).name,
        "first 1 deciding latents to zero at forks": AT_FORKS.name,
        "first 4 deciding latents to zero at forks": AT_FORKS.name,
    }


def test_each_ablates_and_the_series_follows_the_order(by_name):
    assert {arm.edit.factor for arm in by_name.values()} == {0.0}
    assert {(arm.site, arm.layer, arm.family, arm.problems) for arm in by_name.values()} == {
        ("resid_mid", 2, "circuit", 16)
    }
    latents = {name: arm.edit.latents for name, arm in by_name.items()}
    assert latents["first 1 deciding latents to zero at forks"] == (3,)
    assert latents["first 4 deciding latents to zero at forks"] == (3, 5, 7, 9)
    assert all(found == (3, 5) for name, found in latents.items() if not name.startswith("first"))


def test_controls_are_as_many_latents_that_fire_at_the_same_places(by_name):
    main = by_name["deciding latents to zero at forks"]
    assert len(main.controls) == 20 and main.control_problems == 8
    for control in main.controls:
        assert control.where == main.edit.where and control.factor == 0.0 and control.site == SITE
        assert len(set(control.latents)) == 2 and set(control.latents) <= set(range(40)) - {3, 5}
    assert len({control.latents for control in main.controls}) > 10
    assert "matched at the edited places" in main.note
    assert not any(arm.controls for arm in by_name.values() if arm is not main)


def test_no_arm_is_there_twice():
    names = [arm.name for arm in arms(latents=(3, 5, 7, 9))]
    assert len(set(names)) == len(names) and "first 4 deciding latents to zero at forks" not in names
    short = [arm.name for arm in arms(latents=(3,), order=(3,))]
    assert short == [f"deciding latents to zero {where}" for where in ("at forks", "everywhere", "elsewhere")]
