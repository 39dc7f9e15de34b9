"""Interventions on a decision: each against whole forwards edited by hand, and what stands beside it."""

import numpy as np
import polars as pl
import pytest
import torch
from causal.whole import trio

from interp.features.carriers import Carriers, carriers, heads_to
from interp.features.contrasts import Contrast
from interp.features.evidence import DRAWS, SCHEMA, guest, necessity, sufficiency
from interp.features.recurrence import own_set
from interp.models.hooks import Site
from tests.features.test_attribution import CONTRAST, MARGIN, PAIRS, SITES, by_hand, decided, one, rows

MODEL = "distilled"


@pytest.fixture(scope="module")
def decision():
    return decided()


@pytest.fixture(scope="module")
def table(decision):
    order = decision.positive.f.sum(0).argsort(descending=True).tolist()
    return necessity(decision, decision, order[:5], order[:2], carriers(decision, 4), seed=0)


def p_onset(model, side, added, site=SITES[1]):
    logits = torch.stack([by_hand(model, ids, site, a) for ids, a in zip(rows(side), added, strict=True)])
    return float(MARGIN.p(logits).mean())


def row(table, what, edit, k, control=None):
    found = table.filter(pl.col("what") == what, pl.col("edit").str.starts_with(edit), pl.col("k") == k)
    if control is not None:
        found = found.filter(pl.col("control").str.contains(control))
    assert len(found) >= 1
    return found.row(0, named=True)


def test_every_kind_of_evidence_is_there(table):
    assert table.schema == pl.Schema(SCHEMA)
    assert set(table["what"]) == {"latents", "direction", "heads"}
    series = table.filter(pl.col("what") == "latents", pl.col("control").str.contains("matched|none"))
    assert sorted(zip(series["k"], series["edit"], strict=True)) == [
        (1, "set back"),
        (2, "set back"),
        (2, "set to their mean on the positive side"),
        (2, "set to zero"),
        (4, "set back"),
    ]
    assert set(table.filter(pl.col("what") == "heads")["k"]) == {1, 2, 4, 8}


def test_latents_are_set_to_zero_and_to_their_mean(decision, table):
    model, latents = trio("qwen2")[MODEL], decision.positive.f.sum(0).argsort(descending=True)[:2].tolist()
    means = decision.negative.f.mean(0)
    for edit, goal in (("set to zero", [0.0, 0.0]), ("set back", means[latents].tolist())):
        got = row(table, "latents", edit, 2, "matched")
        assert got["chosen"] == [str(j) for j in latents]
        for side, column in (("positive", "onset"), ("negative", "false_alarm")):
            f = getattr(decision, side).f
            added = [
                sum((g - float(f[i, j])) * one(decision.crosscoder, 1, j) for g, j in zip(goal, latents, strict=True))
                for i in range(len(PAIRS))
            ]
            assert got[column] == pytest.approx(p_onset(model, side, added), abs=2e-3)
            assert got[f"{column}_untouched"] == pytest.approx(p_onset(model, side, [0.0] * len(PAIRS)), abs=1e-4)
        assert got["kl_negative"] >= 0


def test_the_direction_is_set_and_random_ones_are_displaced_as_far(decision, table):
    h, other = decision.positive.h.double(), decision.negative.h.double()
    unit = h.mean(0) - other.mean(0)
    unit = unit / unit.norm()
    added = [(float(other.mean(0) @ unit) - float(x @ unit)) * unit for x in h]
    got = row(table, "direction", "set back", 1)
    assert got["onset"] == pytest.approx(p_onset(trio("qwen2")[MODEL], "positive", added), abs=2e-3)
    assert got["n_controls"] == DRAWS and got["control_low"] < got["control_mean"] < got["control_high"]


def test_heads_are_slices_of_z():
    """One head is set: the others keep their bits."""
    changes = heads_to([(1, 2), (0, 3)], 4, {layer: torch.zeros(16) for layer in range(2)})
    assert set(changes) == {Site(0, "z"), Site(1, "z")}
    z = torch.randn(3, 16)
    new = changes[Site(1, "z")](z, slice(0, 3))
    assert (new[:, 8:12] == 0).all() and torch.equal(new[:, :8], z[:, :8]) and torch.equal(new[:, 12:], z[:, 12:])
    new = heads_to([(1, 0)], 4, {1: torch.arange(16.0)})[Site(1, "z")](z, slice(0, 3))
    assert torch.equal(new[:, :4], torch.arange(4.0).expand(3, 4)) and torch.equal(new[:, 4:], z[:, 4:])


def test_carriers_are_kept_as_they_were(decision, tmp_path):
    made = carriers(decision, 4)
    made.save(tmp_path / "carriers.safetensors")
    kept = Carriers.load(tmp_path / "carriers.safetensors")
    assert (kept.level, kept.heads, kept.n_heads) == (made.level, made.heads, made.n_heads)
    assert torch.equal(kept.unit, made.unit) and kept.z.keys() == made.z.keys() == {0, 1, 2}
    assert all(torch.equal(kept.z[layer], made.z[layer]) for layer in made.z)
    other = decision.negative.h.double().mean(0)
    difference = decision.positive.h.double().mean(0) - other
    torch.testing.assert_close(made.unit.double(), difference / difference.norm(), atol=1e-5, rtol=1e-5)
    assert made.level == pytest.approx(float(other @ difference / difference.norm()), abs=1e-4)


def test_the_first_head_is_the_one_with_the_largest_effect(decision, table):
    got = row(table, "heads", "set back", 1)
    layer, head = map(int, got["chosen"][0].split("."))
    sites = [Site(at, "z") for at in range(3)]
    means = {site.layer: z.mean(0) for site, z in decision.negative.prefixes.read(sites).items()}
    left = {
        (at, h): float(MARGIN.of(decision.positive.prefixes.logits(heads_to([(at, h)], 4, means))).mean())
        for at in range(3)
        for h in range(4)
    }
    assert min(left, key=left.__getitem__) == (layer, head)
    assert got["margin"] == pytest.approx(left[layer, head], abs=1e-4)


def test_latents_at_their_mean_on_the_positive_side_are_tried_on_the_negative_one(decision, table):
    """Whether they are enough for a false alarm in the model itself."""
    got = row(table, "latents", "set to their mean on the positive", 2)
    latents, goal = [int(j) for j in got["chosen"]], decision.positive.f.mean(0)
    wanted = decision.logits(decision.negative, latents, goal[latents])
    assert got["false_alarm"] == pytest.approx(float(MARGIN.p(wanted).mean()), abs=1e-5)
    assert got["control_low"] <= got["control_mean"] <= got["control_high"]
    if got["false_alarm"] > got["control_high"]:
        assert got["p"] == pytest.approx(1 / (1 + got["n_controls"]))
    if got["false_alarm"] < got["control_low"]:
        assert got["p"] == 1


def test_p_counts_the_controls_that_come_as_far(table):
    rows = table.filter(pl.col("n_controls") > 0, ~pl.col("edit").str.contains("positive"))
    for got in rows.iter_rows(named=True):
        assert 1 / (1 + got["n_controls"]) <= got["p"] <= 1
        if got["onset"] < got["control_low"]:
            assert got["p"] == pytest.approx(1 / (1 + got["n_controls"]))
        if got["onset"] > got["control_high"]:
            assert got["p"] == 1


@pytest.fixture(scope="module")
def into(decision):
    guests = {
        "base": guest(decision, trio("qwen2")["base"], 0, rows("positive"), rows("negative"), 0, 2),
    }
    chosen = decision.positive.f.sum(0).argsort(descending=True)[:2].tolist()
    return guests, chosen, sufficiency(decision, guests, chosen, seed=0)


def test_a_guest_gets_the_subjects_writing_of_the_latents(decision, into):
    _, chosen, found = into
    base = trio("qwen2")["base"]
    got = row(found, "latents", "written as", 2)
    assert got["model"] == "base"
    for side, column in (("positive", "onset"), ("negative", "false_alarm")):
        f = getattr(decision, side).f
        added = [
            sum(float(f[i, j]) * (one(decision.crosscoder, 1, j) - one(decision.crosscoder, 0, j)) for j in chosen)
            for i in range(len(PAIRS))
        ]
        assert got[column] == pytest.approx(p_onset(base, side, added), abs=2e-3)
        assert got[f"{column}_untouched"] == pytest.approx(p_onset(base, side, [0.0] * len(PAIRS)), abs=1e-4)


def test_the_whole_activation_of_the_subject_in_a_guest(decision, into):
    _, _, found = into
    base = trio("qwen2")["base"]
    got = row(found, "residual", "the subject's", 0)
    added = [h.double() for h in decision.positive.h]
    own = decided(subject="base").positive.h.double()
    assert got["onset"] == pytest.approx(
        p_onset(base, "positive", [a - b for a, b in zip(added, own, strict=True)]), abs=2e-3
    )
    assert got["n_controls"] == 0 and got["p"] is None


def test_a_model_gives_itself_nothing(decision):
    """Its own latents and its own activation: to the bit."""
    own = guest(decision, trio("qwen2")[MODEL], 1, rows("positive"), rows("negative"), 0, 2)
    found = sufficiency(decision, {MODEL: own}, [0, 5], seed=0)
    assert found["onset"].to_list() == found["onset_untouched"].to_list()
    assert found["false_alarm"].to_list() == found["false_alarm_untouched"].to_list()
    assert found["kl_negative"].to_list() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_another_dictionary_reads_the_same_prefixes(decision):
    from small import code64, small_crosscoder

    other = small_crosscoder(seed=5)
    again = decision.read_with(other)
    x = torch.stack([decided(subject=name).positive.h for name in trio("qwen2")], dim=1)
    torch.testing.assert_close(again.positive.f.double(), code64(other, x.double()), atol=1e-3, rtol=1e-4)
    assert torch.equal(again.positive.h, decision.positive.h) and again.positive.prefixes is decision.positive.prefixes
    assert isinstance(own_set(again, again)["carries"], bool)
    assert np.isfinite(own_set(again, again)["onset"])
    assert isinstance(CONTRAST, Contrast)


def test_p_of_a_rise_is_that_of_the_controls_that_rise_as_far():
    from interp.features.evidence import _Row, _set, _table
    from tests.features.decisions import linear_decision
    from tests.features.test_selection import codes, weights

    f = codes(4.0)
    planted = linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)
    there, nothing = planted.positive.f.mean(0), [_set(planted, [j], planted.level) for j in range(5, 14)]
    both = _set(planted, [0, 1], there)
    rows = [
        _Row("latents", "raised", 2, (0, 1), both, "others", nothing, raises=True, alarms=True),
        _Row("latents", "raised", 2, (0, 1), both, "the same", [both, *nothing], raises=True, alarms=True),
        _Row("latents", "set back", 2, (0, 1), _set(planted, [0, 1], planted.level), "others", nothing),
    ]
    got = _table(planted, rows)
    assert got["false_alarm"][0] == pytest.approx(torch.sigmoid(torch.tensor(5.0)).item(), abs=1e-4)
    assert got["p"].to_list() == pytest.approx([1 / 10, 2 / 11, 1 / 10])
    assert got["control_high"][0] < 0.01 < 0.99 < got["control_low"][2]


def test_no_control_is_drawn_twice():
    from interp.features.matched import distinct

    rng = np.random.default_rng(0)
    assert distinct(rng, [3, 5, 8], 1, DRAWS) == [[3], [5], [8]], "all, where there are few"
    many = distinct(rng, list(range(40)), 2, DRAWS)
    assert len(many) == DRAWS == len({frozenset(one) for one in many}) and all(len(set(one)) == 2 for one in many)
    assert distinct(rng, [1], 2, DRAWS) == []
