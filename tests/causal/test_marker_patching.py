"""Signs, shares and controls of the patching arms on a model whose every answer can be worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

from interp.causal.effects import table
from interp.causal.marker_patching import batches, patching_rows
from interp.causal.pairs import Pair
from interp.causal.patching import SITES, hook_name

NEUTRAL, WEAK, STRONG, REST = 0, 1, 2, 3
START = -9.0
"""Log-probability of every token of the continuation where nothing raises it."""


class Additive:
    """A bridge whose activations are read off a table by token, and which predicts REST at a position with
    log-probability START plus the sum of all activations up to there."""

    cfg = SimpleNamespace(device=torch.device("cpu"), d_vocab=4)

    def __init__(self, worth):
        self.worth = worth
        """(layer, site) to the activation of each token."""

    def run_with_cache(self, ids, *, return_type, names_filter):
        cache = {name: torch.tensor(values)[ids][..., None] for name, values in self._named() if names_filter(name)}
        return self._logits(ids, []), cache

    def run_with_hooks(self, ids, *, return_type, fwd_hooks):
        return self._logits(ids, fwd_hooks)

    def _named(self):
        return [(hook_name(layer, site), values) for (layer, site), values in self.worth.items()]

    def _logits(self, ids, hooks):
        total = torch.full(ids.shape, START, dtype=torch.float64)
        for name, values in self._named():
            activation = torch.tensor(values)[ids][..., None]
            for where, hook in hooks:
                if where == name:
                    activation = hook(activation, None)
            total = total + activation[..., 0].cumsum(1)
        others = ((1 - total.exp()) / 3).log()  # so that the log-softmax changes nothing
        return torch.stack([others, others, others, total], dim=-1)


PAIRS = [
    Pair("weak", [WEAK, REST, REST, REST], [NEUTRAL, REST, REST, REST], [0], 1),
    Pair("strong", [STRONG, REST, REST, REST], [NEUTRAL, REST, REST, REST], [0], 1),
]
"""Three measured tokens each; patched at the first position, so that nothing is read beforehand."""
LAYERS = (0, 1)


def worlds():
    nothing = {(layer, site): [0.0, 0.0, 0.0, 0.0] for layer in LAYERS for site in SITES}
    # The weak marker is worth 1 and the strong one 2 to each of the three tokens.
    at_once = nothing | {(0, "resid_pre"): [0.0, 1.0, 2.0, 0.0]}
    # resid_pre holds .25 of the weak marker and .75 of the strong one: (.25 * 1 + .75 * 2) / (1 + 2) of the whole.
    shared = nothing | {(0, "resid_pre"): [0.0, 0.25, 1.5, 0.0], (1, "mlp_out"): [0.0, 0.75, 0.5, 0.0]}
    return {"at once": at_once, "shared": shared}


WANTED = {
    "at once": {(0, "resid_pre"): 1.0},
    "shared": {(0, "resid_pre"): 1.75 / 3, (1, "mlp_out"): 1.25 / 3},
}


def effects(world, pairs=PAIRS, n_controls=3):
    done = []
    rows = patching_rows(Additive(world), pairs, LAYERS, "distilled", n_controls, 300, 0, lambda: done.append(1))
    assert len(done) == 2 * len(LAYERS) * len(SITES)
    return table(rows)


@pytest.mark.parametrize("name", ["at once", "shared"])
def test_both_arms_carry_over_the_share_that_a_place_holds(name):
    """The difference of clean and corrupt is 3 * (1 + 2) / 2 = 4.5 nats a pair. Noising takes the place's share of it
    away, denoising gives it; both restore the same share, a ratio of means over pairs."""
    frame = effects(worlds()[name])
    assert len(frame) == 2 * len(LAYERS) * len(SITES) * 2
    for row in frame.iter_rows(named=True):
        share = WANTED[name].get((row["layer"], row["site"]), 0.0)
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


def test_controls_are_patched_where_the_marker_is_not():
    """Here the marker's effect is carried by the token after it alone (REST is worth something only on the clean
    side, by a cache of its own), so that the marker's position restores nothing and some random ones all."""
    bridge = Additive(worlds()["at once"])
    plain = bridge.run_with_cache

    def run_with_cache(ids, **named):
        logits, cache = plain(ids, **named)
        if int(ids[0, 0]) != NEUTRAL:  # the clean side
            cache[hook_name(0, "attn_out")][:, 1] = 2.0
        return logits, cache

    bridge.run_with_cache = run_with_cache
    rows = patching_rows(bridge, PAIRS[1:], [0], "distilled", 8, 100, 0, lambda: None)
    (row,) = [r for r in rows if (r["arm"], r["site"], r["outcome"]) == ("denoising", "attn_out", "log-probability")]
    assert row["estimate"] == pytest.approx(0.0, abs=1e-6)
    # Position 1 raises the two tokens after it by 2 each; position 2 nothing. Each is drawn in about half the draws.
    assert 0 < row["control_mean"] < 4
    assert row["control_mean"] * 8 / 4 == pytest.approx(round(row["control_mean"] * 8 / 4), abs=1e-5)
    assert row["p"] == 1.0, "the effect is 0 in every resample"


def test_where_the_runs_do_not_differ_the_share_is_refused_and_the_change_is_given():
    nothing = {(layer, site): [0.0, 0.0, 0.0, 0.0] for layer in LAYERS for site in SITES}
    frame = effects(nothing)
    refused = frame.filter(frame["outcome"] == "restored")
    assert refused["estimate"].null_count() == len(refused) == 2 * len(LAYERS) * len(SITES)
    assert refused["note"].str.starts_with("refused: clean and corrupt differ by 0.000 [0.000, 0.000] nats").all()
    given = frame.filter(frame["outcome"] == "log-probability")
    assert given["estimate"].abs().max() < 1e-6


def test_batches_hold_as_many_pairs_as_the_logits_leave_room_for(monkeypatch):
    from interp.causal import marker_patching

    assert [len(b) for b in batches(PAIRS * 40, 4)] == [64, 16]
    monkeypatch.setattr(marker_patching, "BYTES", 4 * 4 * 4 * 3)
    assert [len(b) for b in batches(PAIRS * 4, 4)] == [3, 3, 2]


def test_rows_are_the_same_in_several_batches(monkeypatch):
    from interp.causal import marker_patching

    whole = effects(worlds()["shared"])
    monkeypatch.setattr(marker_patching, "TOGETHER", 1)
    done = []
    rows = patching_rows(Additive(worlds()["shared"]), PAIRS, LAYERS, "distilled", 3, 300, 0, lambda: done.append(1))
    columns = ["arm", "layer", "site", "outcome", "untouched", "estimate", "low", "high"]
    assert table(rows).select(columns).equals(whole.select(columns))
