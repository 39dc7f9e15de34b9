"""A class of latents is sought where it may be, on one half, and claimed only where the other half confirms it."""

import polars as pl
import pytest
import torch

from interp.features.circuit import CLASSES, EVENTS, OF_THE_DECISION, SCHEMA, find
from interp.features.contrasts import MARKER_NEUTRAL, SECOND_FIRST, WRONG_RIGHT, Contrast, Pair
from tests.features.decisions import linear_decision
from tests.features.test_selection import codes, weights

CONTRAST = Contrast(WRONG_RIGHT, [Pair(f"problem {i}", [1, i], [2, i]) for i in range(40)], None)


def reader(choosing, confirming):
    """The two halves' decisions, by the half that is asked for."""
    first = {pair.problem for pair in CONTRAST.half(choosing=True).pairs}

    def read(contrast):
        half = {pair.problem for pair in contrast.pairs}
        assert half in (first, {pair.problem for pair in CONTRAST.pairs} - first)
        return choosing if half == first else confirming

    return read


@pytest.fixture
def planted():
    f = codes(4.0)
    return linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)


def test_the_classes_and_their_contrasts():
    assert CLASSES == {"deciding": WRONG_RIGHT, "wording": MARKER_NEUTRAL, "executing": SECOND_FIRST}
    assert CLASSES.keys() == EVENTS.keys() > set(OF_THE_DECISION)


def test_a_planted_class_is_found(planted):
    found = find("deciding", CONTRAST, None, reader(planted, planted), 0)
    assert found.latents == [0, 1]
    table = found.table()
    assert table.schema == pl.Schema(SCHEMA)
    assert table.filter("chosen")["latent"].to_list() == [0, 1]
    assert set(table["class"]) == {"deciding"}
    told = found.as_json()
    assert (told["located"], told["latents"], told["tried"]) == (True, [0, 1], [0, 1])
    assert told["gap"] == pytest.approx(10.0, abs=1e-3) and told["explained"] == pytest.approx(10.0, abs=1e-3)


def test_what_the_other_half_does_not_show_is_not_claimed(planted):
    """There the decision is carried by other latents."""
    f = codes(4.0)
    f[0, :, 5], f[1, :, 5] = 4.0, 0.0
    other = linear_decision(f[0], f[1], torch.eye(len(f[0, 0]))[5] * 5.0, bias=-6.25)
    found = find("deciding", CONTRAST, None, reader(planted, other), 0)
    assert found.latents == [] and not found.as_json()["located"]
    assert found.as_json()["tried"] == [0, 1]
    assert "is left of the onset on the other half" in found.as_json()["why"]
    alone = find("deciding", CONTRAST, None, reader(other, other), 0).as_json()
    assert alone["tried"] == [5] and alone["onset_ablated"] < 0.01
    assert "of 100 controls" in alone["why"], "there are 39 other latents, and 24 of them are neighbours"


def test_where_it_must_not_be_sought_nothing_is_read():
    def read(contrast):
        raise AssertionError("read")

    found = find("wording", CONTRAST, "cannot be read here", read, 0)
    assert found.as_json() == {"located": False, "why": "cannot be read here", "latents": []}
    assert len(found.table()) == 0 and found.table().schema == pl.Schema(SCHEMA)


def test_latents_that_push_away_are_no_candidates():
    f = codes(4.0)
    against = linear_decision(f[0], f[1], weights(-1.0, -1.0), bias=30.0)
    found = find("deciding", CONTRAST, None, reader(against, against), 0)
    assert found.latents == [] and "no latent carries 2% of the gap" in found.as_json()["why"]


def test_only_latents_that_recur_are_chosen(planted):
    """In the other dictionaries latent 1 is another direction; latent 0 alone leaves more than a quarter."""
    from interp.features.recurrence import SCHEMA as RECURRENCE

    others = {}
    for key in (1, 2):
        others[key] = linear_decision(*codes(4.0), weights(3.0, 2.0), bias=-6.25).crosscoder
        others[key].W_dec[1] = 0.0
        others[key].W_dec[1, :, 30] = 1.0
        others[key].encode = lambda x: x[:, 0]  # its code is what it is given
    for side in (planted.positive, planted.negative):
        object.__setattr__(side, "x", side.f[:, None].expand(-1, 3, -1))

    found = find("deciding", CONTRAST, None, reader(planted, planted), 0, others)
    assert found.recurs.schema == pl.Schema(RECURRENCE)
    recurs = {row["latent"]: row["recurs"] for row in found.recurs.iter_rows(named=True)}
    assert recurs == {0: True, 1: False}
    assert found.confirmed.latents == (0,) and not found.confirmed.located
    assert set(found.own_sets) == {1, 2} and found.as_json()["own_sets"]["1"]["latents"] == [0]
    alone = find("deciding", CONTRAST, None, reader(planted, planted), 0)
    assert alone.latents == [0, 1] and alone.own_sets == {} and len(alone.recurs) == 0


def test_where_none_recurs_none_is_claimed(planted, monkeypatch):
    monkeypatch.setattr("interp.features.circuit.recurring", lambda table, latents: [])
    found = find("deciding", CONTRAST, None, reader(planted, planted), 0)
    assert found.as_json() == {
        "located": False,
        "why": "wrong / right: none of 2 latents recurs in dictionaries of other seeds",
        "latents": [],
    }


def test_latents_are_set_back_to_the_choosing_halfs_level(planted):
    f = codes(4.0)
    f[1, :, 0] = 1.0  # there latent 0 is a little active after right steps too
    other = linear_decision(f[0], f[1], weights(3.0, 2.0), bias=-6.25)
    found = find("deciding", CONTRAST, None, reader(planted, other), 0)
    assert found.confirmed.levels == pytest.approx((0.0, 0.0))
    assert find("deciding", CONTRAST, None, reader(other, planted), 0).confirmed.levels == pytest.approx((1.0, 0.0))
