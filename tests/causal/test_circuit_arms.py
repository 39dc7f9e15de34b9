"""The arms on a decision's latents: the same ablation where it should act and where it should not, beside its match;
and the removals that the circuit's verdict is read from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import small_crosscoder

from interp.causal.arms import BOTH, CIRCUIT, FUNCTION, STYLE
from interp.causal.circuit_arms import Located, evidence_arms, removal_arms
from interp.causal.edits import Echo, Redraw
from interp.causal.edits.insert import Insert
from interp.causal.edits.latents import SetTo
from interp.causal.edits.substitute import Substitute
from interp.causal.places import FORKS, after_first, behind
from interp.causal.study_arms import Sizes
from interp.features.carriers import Carriers
from interp.features.circuit import DECIDING, WORDING
from interp.models.hooks import Site
from interp.traces.announcements import Announcements
from interp.traces.lexicon import load_lexicon

SITE, EVERYWHERE, LEXICON = Site(2, "resid_mid"), after_first(2), load_lexicon("default")
AT_FORKS = EVERYWHERE & FORKS
LEVEL = np.linspace(0.0, 1.0, 60)
WORDS = Announcements((" wait ,",), (";",), 0.2)
MODELS = ("distilled", "base")
HEADS = ((1, 0), (0, 1), (0, 0), (1, 1), (2, 0), (2, 1))
OTHERS = Carriers(torch.eye(16)[3], 0.25, HEADS, {layer: torch.arange(16.0) + layer for layer in range(3)}, 2)


def located(latents=(3, 5), order=(3, 5, 7, 9, 1), n_latents=60, at=FORKS, says="at forks", cc=None):
    firing, size = np.full(n_latents, 0.1), np.ones(n_latents)
    firing[40:], size[40:] = 0.0, 0.0
    cc = cc or small_crosscoder(n_latents=n_latents)
    edit = SetTo(SITE, cc, latents, values=tuple(LEVEL[list(latents)].tolist()))
    return Located(edit, LEVEL[:n_latents], order, at, says, EVERYWHERE, firing, size, (3, 5, 8), OTHERS)


def everything(draws=20, **given):
    return evidence_arms(DECIDING, located(**given), Sizes(draws, 8, 0), problems=16)


def arms(draws=20, **given):
    """Those on latents."""
    return [arm for arm in everything(draws, **given) if "latents" in arm.name]


@pytest.fixture
def by_name():
    return {arm.name: arm for arm in arms()}


def test_the_names_and_where_each_acts(by_name):
    assert {name: arm.edit.where.name for name, arm in by_name.items()} == {
        "deciding latents set back at forks": AT_FORKS.name,
        "deciding latents set back everywhere": EVERYWHERE.name,
        "deciding latents set back elsewhere": (EVERYWHERE & ~FORKS).name,
        "first 1 deciding latents set back at forks": AT_FORKS.name,
        "first 4 deciding latents set back at forks": AT_FORKS.name,
    }


@pytest.fixture
def besides():
    return {arm.name: arm for arm in everything() if "latents" not in arm.name}


def test_a_direction_is_set_back_beside_random_ones_displaced_as_far(besides):
    here, whole = (besides[f"deciding direction set back {where}"] for where in ("at forks", "everywhere"))
    assert (here.edit.where.name, whole.edit.where.name) == (AT_FORKS.name, EVERYWHERE.name)
    for arm in (here, whole):
        assert (arm.site, arm.layer, arm.family) == ("resid_mid", 2, CIRCUIT)
        assert torch.equal(arm.edit.vector, OTHERS.unit) and arm.edit.value == 0.25 and arm.edit.along is None
    assert len(here.controls) == 20 and whole.controls == ()
    assert all(torch.equal(c.vector, OTHERS.unit) and c.value == 0.25 for c in here.controls)
    assert len({tuple(c.along.tolist()) for c in here.controls}) == 20


def test_heads_are_set_back_beside_other_heads(besides):
    one, two = (besides[f"{name} set back at forks"] for name in ("head 1.0", "heads 1.0 and 0.1"))
    assert (one.site, one.layer, two.site, two.layer) == ("z", 1, "z", 0)
    assert [(e.site, e.heads) for e in one.edit.parts()] == [(Site(1, "z"), (0,))]
    assert [(e.site, e.heads) for e in two.edit.parts()] == [(Site(0, "z"), (1,)), (Site(1, "z"), (0,))]
    for edit in (*one.edit.parts(), *two.edit.parts()):
        assert torch.equal(edit.value, OTHERS.z[edit.site.layer]) and edit.where.name == AT_FORKS.name
    assert len(one.controls) == 5 and len(two.controls) == 6, "all that there are"
    for arm, mine in ((one, {(1, 0)}), (two, {(1, 0), (0, 1)})):
        drawn = [{(e.site.layer, head) for e in c.parts() for head in e.heads} for c in arm.controls]
        assert all(len(heads) == len(mine) and not heads & mine for heads in drawn)
        assert len(set(map(frozenset, drawn))) == len(drawn)


def test_each_sets_its_latents_back_and_the_series_follows_the_order(by_name):
    for arm in by_name.values():
        assert arm.edit.values == tuple(LEVEL[list(arm.edit.latents)])
    assert {(arm.site, arm.layer, arm.family, arm.problems, arm.claim) for arm in by_name.values()} == {
        ("resid_mid", 2, CIRCUIT, 16, "")
    }
    latents = {name: arm.edit.latents for name, arm in by_name.items()}
    assert latents["first 1 deciding latents set back at forks"] == (3,)
    assert latents["first 4 deciding latents set back at forks"] == (3, 5, 7, 9)
    assert all(found == (3, 5) for name, found in latents.items() if not name.startswith("first"))


def test_controls_are_as_many_latents_that_fire_at_the_same_places(by_name):
    main = by_name["deciding latents set back at forks"]
    assert len(main.controls) == 20 and main.control_problems == 8
    for control in main.controls:
        assert control.where == main.edit.where and control.site == SITE
        assert control.values == tuple(LEVEL[list(control.latents)])
        assert len(set(control.latents)) == 2 and set(control.latents) <= set(range(40)) - {3, 5}
    assert len({control.latents for control in main.controls}) > 10
    assert "matched at the edited places" in main.note
    assert not any(arm.controls for arm in by_name.values() if arm is not main)


def test_where_no_others_move_the_residual_as_far_the_same_change_is_written_elsewhere():
    found = located()
    found.size[[3, 5]] = 100.0
    main, *_ = evidence_arms(DECIDING, found, Sizes(20, 8, 0), problems=16)
    assert len(main.controls) == 20
    for control in main.controls:
        assert (control.latents, control.values, control.where) == ((3, 5), main.edit.values, main.edit.where)
        assert set(control.along) <= set(range(40)) - {3, 5, 8} and len(set(control.along)) == 2
    assert "20 of 20 controls write the same change" in main.note
    assert main.edit.along is None


@pytest.mark.parametrize("large", [1.0, 100.0], ids=["sets", "along"])
def test_no_control_writes_the_same_as_the_latents(large):
    """As the edited model writes: the base's decoders play no part."""
    cc = small_crosscoder(n_latents=60)
    cc.W_dec[10:40:2, 1] = -0.5 * cc.W_dec[3, 1]
    cc.W_dec[11:40:2, 0] = cc.W_dec[3, 0]
    found = located(cc=cc)
    found.size[[3, 5]] = large
    main, *_ = evidence_arms(DECIDING, found, Sizes(20, 8, 0), problems=16)
    used = {j for control in main.controls for j in (control.along or control.latents)}
    assert len(main.controls) == 20 and not used & {*range(10, 40, 2)} and used & {*range(11, 40, 2)}


def test_no_arm_is_there_twice():
    names = [arm.name for arm in arms(latents=(3, 5, 7, 9))]
    assert len(set(names)) == len(names) and "first 4 deciding latents set back at forks" not in names
    short = [arm.name for arm in arms(latents=(3,), order=(3,))]
    assert short == [f"deciding latents set back {where}" for where in ("at forks", "everywhere", "elsewhere")]


# Removals


def removals(words=WORDS, draws=4, lexicon=LEXICON, **classes):
    cc = small_crosscoder(n_latents=60)
    given = {
        DECIDING: located(cc=cc),
        WORDING: located((8,), (8,), at=behind(frozenset({"0 ;"})), says="before words", cc=cc),
    }
    found = {name: given[name] for name in (DECIDING, WORDING) if name in classes}
    return {arm.claim: arm for arm in removal_arms(found, lexicon, words, MODELS, Sizes(draws, 8, 0), 16)}


def kinds(edit):
    return [type(one).__name__ for one in edit.parts()]


def test_without_located_latents_nothing_is_removed():
    assert removals() == {}


def test_deciding_latents_remove_both_and_with_markers_put_in_the_function_alone():
    found = removals(deciding=True)
    assert set(found) == {BOTH, FUNCTION}
    assert kinds(found[BOTH].edit) == ["SetTo", "Substitute"] and found[BOTH].edit.parts()[0].latents == (3, 5)
    assert found[BOTH].edit.parts()[1] == Substitute(tuple(LEXICON.class_of), LEXICON.neutral, "markers")
    assert kinds(found[FUNCTION].edit) == ["SetTo", "Insert"]
    (put_in,) = [one for one in found[FUNCTION].edit.parts() if isinstance(one, Insert)]
    assert (put_in.texts, put_in.rate, put_in.joints) == ((" wait ,",), 0.2, (";",))
    for arm in found.values():
        assert arm.models == MODELS and arm.family == CIRCUIT and arm.forced and len(arm.controls) == 4
    for control in found[FUNCTION].controls:
        ablation, same = control.parts()
        assert (
            same == put_in
            and ablation.along is None
            and set(ablation.latents).isdisjoint({3, 5})
            and ablation.where == AT_FORKS
        )
    for control in found[BOTH].controls:
        ablation, same = control.parts()
        assert same == found[BOTH].edit.parts()[1] and set(ablation.latents).isdisjoint({3, 5})
    assert set(removals(words=None, deciding=True)) == {BOTH}, "a model that writes no markers"
    mute = replace(LEXICON, neutral=())
    assert kinds(removals(lexicon=mute, deciding=True)[BOTH].edit) == ["SetTo", "Ban"]


def test_wording_latents_remove_the_style_and_an_echo_the_function():
    found = removals(wording=True)
    assert set(found) == {STYLE, BOTH}
    assert found[STYLE].edit.latents == (8,) and "0 ;" in found[STYLE].edit.where.name
    assert kinds(found[BOTH].edit) == ["SetTo", "Echo"]
    assert [type(control.parts()[1]) for control in found[BOTH].controls] == [Redraw] * 4
    assert [control.parts()[1].draw for control in found[BOTH].controls] == [1, 2, 3, 4]
    assert isinstance(found[BOTH].edit.parts()[1], Echo)


def test_both_classes_are_removed_together():
    found = removals(deciding=True, wording=True)
    assert set(found) == {STYLE, FUNCTION, BOTH}
    assert [one.latents for one in found[BOTH].edit.parts()] == [(8,), (3, 5)]
    assert 0 < len(found[BOTH].controls) <= 4
    for control in found[BOTH].controls:
        assert {8, 3, 5}.isdisjoint({j for one in control.parts() for j in one.latents})


def test_the_base_gets_the_ablation_in_its_own_slot():
    ablation = removals(deciding=True)[FUNCTION].edit.on("base").parts()[0]
    assert (ablation.model, ablation.slot, ablation.latents) == ("base", 0, (3, 5))
    assert removals(deciding=True)[FUNCTION].edit.parts()[0].slot == 1
