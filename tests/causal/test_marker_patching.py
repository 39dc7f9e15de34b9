"""Signs, shares and controls of the patching arms on a model whose every answer can be worked out by hand."""

import os
import time
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from interp.causal import marker_patching, patching
from interp.causal.effects import table
from interp.causal.marker_patching import (
    SCHEMA,
    Patching,
    batches,
    components_of,
    distinct,
    patching_rows,
    read_patches,
    run_patching,
)
from interp.causal.pairs import Pair
from interp.errors import InterpError
from interp.models.hooks import Site
from interp.workers import crew

NEUTRAL, WEAK, STRONG, REST = 0, 1, 2, 3
START = -9.0
"""Log-probability of every token of the continuation where nothing raises it."""


class Additive:
    """A bridge whose activations are read off a table by token, and which predicts REST at a position with
    log-probability START plus the sum of all activations up to there."""

    cfg = SimpleNamespace(device=torch.device("cpu"), d_vocab=4)

    def __init__(self, worth):
        self.worth = worth
        """(layer, site) to the activation of each token; at `z` that of each head."""

    def run_with_cache(self, ids, *, return_type, names_filter):
        cache = {name: torch.tensor(values)[ids] for name, values in self._named() if names_filter(name)}
        return self._logits(ids, []), cache

    def run_with_hooks(self, ids, *, return_type, fwd_hooks):
        return self._logits(ids, fwd_hooks)

    def _named(self):
        return [(str(Site(layer, site)), values) for (layer, site), values in self.worth.items()]

    def _logits(self, ids, hooks):
        total = torch.full(ids.shape, START, dtype=torch.float64)
        for name, values in self._named():
            activation = torch.tensor(values)[ids]
            for where, hook in hooks:
                if where == name:
                    activation = hook(activation, None)
            total = total + activation.flatten(2).sum(2).cumsum(1)
        others = ((1 - total.exp()) / 3).log()  # so that the log-softmax changes nothing
        return torch.stack([others, others, others, total], dim=-1)


PAIRS = [
    Pair("weak", [WEAK, REST, REST, REST], [NEUTRAL, REST, REST, REST], [0], 1),
    Pair("strong", [STRONG, REST, REST, REST], [NEUTRAL, REST, REST, REST], [0], 1),
]
"""Three measured tokens each; patched at the first position, so that nothing is read beforehand."""
LAYERS, SITES, HEADS = (0, 1), ("resid_pre", "mlp_out", "z"), 2
COMPONENTS = components_of(LAYERS, SITES, HEADS)


def at(layer, site):
    """The shape of one token's activation: a number, or one for each head."""
    return [[[0.0], [0.0]]] * 4 if site == "z" else [[0.0]] * 4


def worlds():
    nothing = {(layer, site): at(layer, site) for layer in LAYERS for site in SITES}
    # The weak marker is worth 1 and the strong one 2 to each of the three tokens.
    at_once = nothing | {(0, "resid_pre"): [[0.0], [1.0], [2.0], [0.0]]}
    # resid_pre holds .25 of the weak marker and .75 of the strong one: (.25 * 1 + .75 * 2) / (1 + 2) of the whole.
    shared = nothing | {(0, "resid_pre"): [[0.0], [0.25], [1.5], [0.0]], (1, "mlp_out"): [[0.0], [0.75], [0.5], [0.0]]}
    # The first head holds .2 of the weak marker, the second .8 of it and all of the strong one.
    by_head = nothing | {(1, "z"): [[[0.0], [0.0]], [[0.2], [0.8]], [[0.0], [2.0]], [[0.0], [0.0]]]}
    return {"at once": at_once, "shared": shared, "by head": by_head}


WANTED = {
    "at once": {(0, "resid_pre", None): 1.0},
    "shared": {(0, "resid_pre", None): 1.75 / 3, (1, "mlp_out", None): 1.25 / 3},
    "by head": {(1, "z", 0): 0.2 / 3, (1, "z", 1): 2.8 / 3},
}


def patched(world, out, pairs=PAIRS, n_controls=3, components=COMPONENTS, bridge=None):
    done = []
    what = Patching("distilled", "r0", tuple(pairs), components, n_controls, 0)
    found = run_patching(lambda: bridge or Additive(world), what, out, on_done=lambda: done.append(1))
    assert len(done) == 2 * len(components)
    return found


def effects(world, out, **named):
    return table(patching_rows(patched(world, out, **named), 300, 0))


@pytest.mark.parametrize("name", WANTED)
def test_both_arms_carry_over_the_share_that_a_place_holds(name, tmp_path):
    """The difference of clean and corrupt is 3 * (1 + 2) / 2 = 4.5 nats a pair. Noising takes the place's share of it
    away, denoising gives it; both restore the same share, a ratio of means over pairs."""
    frame = effects(worlds()[name], tmp_path)
    assert len(frame) == 2 * 8 * 2, "three sites, one of them of two heads, in two layers, under two arms; two outcomes"
    for row in frame.iter_rows(named=True):
        share = WANTED[name].get((row["layer"], row["site"], row["head"]), 0.0)
        if row["outcome"] == "restored":
            assert row["estimate"] == pytest.approx(share, abs=1e-6)
            assert row["low"] - 1e-6 <= share <= row["high"] + 1e-6
            assert row["control_mean"] == pytest.approx(0.0, abs=1e-6)
        else:
            sign = {"noising": -1, "denoising": 1}[row["arm"]]
            assert row["estimate"] == pytest.approx(sign * 4.5 * share, abs=1e-5)
            assert row["untouched"] == pytest.approx(3 * START + {"noising": 4.5, "denoising": 0.0}[row["arm"]])
        assert (row["model"], row["n_problems"], row["n_controls"]) == ("distilled", 2, 3)
        assert row["family"] == "patching" and row["control_name"] == "random positions"


def test_controls_are_patched_where_the_marker_is_not(tmp_path):
    """Here the marker's effect is carried by the token after it alone (REST is worth something only on the clean
    side, by a cache of its own), so that the marker's position restores nothing and some random ones all."""
    bridge = Additive(worlds()["at once"])
    plain = bridge.run_with_cache

    def run_with_cache(ids, **named):
        logits, cache = plain(ids, **named)
        if int(ids[0, 0]) != NEUTRAL:  # the clean side
            cache[str(Site(0, "mlp_out"))][:, 1] = 2.0
        return logits, cache

    bridge.run_with_cache = run_with_cache
    found = patched(None, tmp_path, PAIRS[1:], 8, components_of([0], ["mlp_out"], HEADS), bridge)
    rows = patching_rows(found, 100, 0)
    (row,) = [r for r in rows if (r["arm"], r["outcome"]) == ("denoising", "log-probability")]
    assert row["estimate"] == pytest.approx(0.0, abs=1e-6)
    # Position 1 raises the two tokens after it by 2 each; position 2 nothing. Each is drawn in about half the draws.
    assert 0 < row["control_mean"] < 4
    assert row["control_mean"] * 8 / 4 == pytest.approx(round(row["control_mean"] * 8 / 4), abs=1e-5)
    assert row["p"] == 1.0, "the effect is 0 in every resample"


def test_where_the_runs_do_not_differ_the_share_is_refused_and_the_change_is_given(tmp_path):
    frame = effects({(layer, site): at(layer, site) for layer in LAYERS for site in SITES}, tmp_path)
    refused = frame.filter(frame["outcome"] == "restored")
    assert refused["estimate"].null_count() == len(refused) == 2 * len(COMPONENTS)
    assert refused["note"].str.starts_with("refused: clean and corrupt differ by 0.000 [0.000, 0.000] nats").all()
    given = frame.filter(frame["outcome"] == "log-probability")
    assert given["estimate"].abs().max() < 1e-6


def test_batches_hold_as_many_pairs_as_the_logits_leave_room_for(monkeypatch):
    assert [len(b) for b in batches(PAIRS * 10, 4)] == [16, 4]
    monkeypatch.setattr(marker_patching, "BYTES", 4 * 4 * 4 * 3)
    assert [len(b) for b in batches(PAIRS * 4, 4)] == [3, 3, 2]


def test_batches_are_neighbours_in_where_they_begin_to_differ(monkeypatch):
    """So that much is read once for all patches; the order of the pairs themselves stays."""
    monkeypatch.setattr(marker_patching, "TOGETHER", 2)
    pairs = [Pair(str(i), [0] * 20, [0] * 20, [at], at + 1) for i, at in enumerate([9, 3, 11, 2, 10])]
    assert batches(pairs, 4) == [[3, 1], [0, 4], [2]]


def test_rows_are_the_same_in_several_batches_and_forwards(monkeypatch, tmp_path):
    whole = patched(worlds()["shared"], tmp_path / "whole")
    monkeypatch.setattr(marker_patching, "TOGETHER", 1)
    monkeypatch.setattr(patching, "ROWS", 1)
    assert patched(worlds()["shared"], tmp_path / "parts").equals(whole)


def test_rows_are_those_of_the_pairs_in_their_order(tmp_path):
    """Every number of the table can be followed: the marker's patch is draw 0, and each row says where it was."""
    late = [Pair("late", [REST, *p.clean], [REST, *p.corrupt], [1], 2) for p in PAIRS[:1]]
    found = patched(worlds()["at once"], tmp_path, [*late, *PAIRS])
    assert found.schema == pl.Schema(SCHEMA)
    unit = found.filter(arm="denoising", layer=0, site="resid_pre")
    assert unit["problem"].to_list() == ["late", "weak", "strong"] * 4
    assert unit["draw"].to_list() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    first = unit.filter(draw=0)
    assert first["positions"].to_list() == [[1], [0], [0]]
    assert first["patched"].to_list() == pytest.approx(first["clean"].to_list())
    assert (first["clean"] - first["corrupt"]).to_list() == pytest.approx([3.0, 3.0, 6.0])


def test_a_second_call_patches_what_is_missing_alone(tmp_path):
    whole = patched(worlds()["shared"], tmp_path)
    parts = sorted(tmp_path.glob("*.parquet"))
    assert len(parts) == 2 * len(COMPONENTS)
    parts[0].unlink()
    parts[1].write_bytes(b"cut")
    calls = []
    bridge = Additive(worlds()["shared"])
    plain = bridge.run_with_hooks
    bridge.run_with_hooks = lambda *a, **named: (calls.append(1), plain(*a, **named))[1]
    assert patched(None, tmp_path, bridge=bridge).equals(whole)
    assert len(calls) == 2, "one forward for each unit that was not there"
    assert read_patches(tmp_path).equals(whole)
    what = Patching("distilled", "r0", tuple(PAIRS), COMPONENTS, 3, 0)
    copied = run_patching(lambda: pytest.fail("nothing is missing"), what, tmp_path / "new", earlier=[tmp_path])
    assert copied.equals(whole)


def test_places_that_draws_repeat_are_patched_once(monkeypatch, tmp_path):
    """Of two pairs the first has three places and the second two. Every draw has the value of its own place."""
    places = [[[4], [7, 8]], [[5], [7, 8]], [[4], [9, 8]], [[6], [7, 8]]]
    once, again = distinct(places)
    assert once == [[[4], [7, 8]], [[5], [9, 8]], [[6], [7, 8]]]
    assert again.tolist() == [[0, 0], [1, 0], [0, 1], [2, 0]]
    assert [[once[k][i] for i, k in enumerate(draw)] for draw in again.tolist()] == places
    world = worlds()["by head"]
    few = patched(world, tmp_path / "few", n_controls=20)
    monkeypatch.setattr(
        marker_patching, "distinct", lambda p: (p, np.repeat(np.arange(len(p))[:, None], len(p[0]), axis=1))
    )
    assert few.equals(patched(world, tmp_path / "all", n_controls=20))
    assert few.group_by("problem").agg(pl.col("positions").n_unique())["positions"].max() < 21


def test_units_may_come_in_any_order_and_from_other_processes(tmp_path):
    """Each process opens one bridge, however many units it patches."""
    world, opened = worlds()["shared"], tmp_path / "opened"
    opened.mkdir()
    alone = patched(world, tmp_path / "alone")
    what = Patching("distilled", "r0", tuple(PAIRS), COMPONENTS, 3, 0)

    def backwards(work, items):
        return map(work, reversed(list(items)))

    assert run_patching(lambda: Additive(world), what, tmp_path / "backwards", spread=backwards).equals(alone)

    def bridge():
        (opened / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return Additive(world)

    with crew(2, 1, "n") as spread:
        assert run_patching(bridge, what, tmp_path / "beside", spread=spread).equals(alone)
    openers = [path.name.split("-")[0] for path in opened.iterdir()]
    assert len(set(openers)) == len(openers) and str(os.getpid()) not in openers


@pytest.mark.parametrize(
    "other",
    [{"model": "base"}, {"revision": "r1"}, {"pairs": tuple(PAIRS[:1])}, {"draws": 4}, {"seed": 1}],
    ids=lambda other: next(iter(other)),
)
def test_a_unit_is_of_all_that_it_depends_on(other):
    about = {"model": "distilled", "revision": "r0", "pairs": tuple(PAIRS), "components": COMPONENTS, "draws": 3}
    one, two = Patching(**about, seed=0), Patching(**(about | {"seed": 0} | other))
    assert {one.key(*unit) for unit in one.units}.isdisjoint(two.key(*unit) for unit in two.units)
    assert len({one.key(*unit) for unit in one.units}) == 2 * len(COMPONENTS)


def test_a_folder_without_patches_is_refused(tmp_path):
    with pytest.raises(InterpError, match="no runs"):
        read_patches(tmp_path)
