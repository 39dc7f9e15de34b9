"""Patching on a TransformerBridge around a model saved and loaded as a user's is."""

import numpy as np
import pytest
import torch
from small import HEADS as N_HEADS
from small import LAYERS, small_model

from interp.causal.pairs import Pair, make_pairs
from interp.causal.patching import (
    Beginning,
    Component,
    log_probability,
    open_bridge,
    positions_mask,
    random_positions,
    read_beginning,
    rows_together,
    run_side,
    stacked,
)
from interp.causal.patching import patch as patch_places
from interp.errors import InterpError
from interp.models.hooks import Site
from interp.models.trio import load_model

from .samples import LEXICON, trace_table

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
WHOLE = [Component(Site(layer, site)) for layer in range(LAYERS) for site in SITES]
HEADS = [Component(Site(layer, "z"), head) for layer in range(LAYERS) for head in range(N_HEADS)]


def at(layer, site):
    return Component(Site(layer, site))


def patch(bridge, into, source, component, where, pairs):
    """One place alone."""
    (found,) = patch_places(bridge, into, source, component, [where], pairs)
    return found


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("patched")
    small_model(4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def bridge(folder, tokenizer):
    return open_bridge(folder, load_model("distilled", folder, torch.device("cpu")), tokenizer)


@pytest.fixture(scope="module")
def pairs(tokenizer):
    return make_pairs(trace_table(tokenizer), tokenizer, LEXICON, 12)


@pytest.fixture(scope="module")
def sides(bridge, pairs):
    beginning = read_beginning(bridge, pairs)
    return [run_side(bridge, pairs, beginning, corrupt, WHOLE) for corrupt in (False, True)]


@pytest.fixture(scope="module")
def everywhere(sides):
    return torch.ones_like(sides[0].ids, dtype=torch.bool)


def test_the_bridge_measures_what_the_model_says(folder, sides, pairs):
    model = load_model("distilled", folder, torch.device("cpu"))
    for side, rows in zip(sides, ([p.clean for p in pairs], [p.corrupt for p in pairs]), strict=True):
        for value, pair, row in zip(side.metric, pairs, rows, strict=True):
            with torch.inference_mode():
                logp = model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
            by_hand = sum(float(logp[t - 1, row[t]]) for t in range(pair.start, len(row)))
            assert value == pytest.approx(by_hand, abs=1e-3)
    assert not np.allclose(sides[0].metric, sides[1].metric)


@pytest.mark.parametrize("component", [*WHOLE, *HEADS], ids=str)
def test_a_run_patched_into_itself_is_itself_to_the_bit(bridge, pairs, sides, everywhere, component):
    for side in sides:
        assert np.array_equal(patch(bridge, side, side, component, everywhere, pairs), side.metric)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_head_is_patched_alone(bridge, pairs, sides, everywhere, layer):
    """Each head's patch differs from the others' and from that of all heads, and reads its own part of the source."""
    clean, corrupt = sides
    heads = [patch(bridge, corrupt, clean, c, everywhere, pairs) for c in HEADS if c.site.layer == layer]
    whole = patch(bridge, corrupt, clean, at(layer, "z"), everywhere, pairs)
    for i, one in enumerate(heads):
        assert not np.array_equal(one, corrupt.metric)
        assert all(not np.allclose(one, other) for other in [*heads[:i], whole])
    mixed = dict(corrupt.cache)
    name = str(Site(layer, "z"))
    mixed[name] = torch.cat([clean.cache[name][:, :, :1], corrupt.cache[name][:, :, 1:]], dim=2)
    half = type(clean)(clean.beginning, clean.ids, mixed, clean.metric)
    first, last = (
        patch(bridge, corrupt, half, Component(Site(layer, "z"), head), everywhere, pairs) for head in (0, N_HEADS - 1)
    )
    assert np.array_equal(first, heads[0]) and np.array_equal(last, corrupt.metric)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_whole_residual_stream_carries_everything(bridge, pairs, sides, everywhere, layer):
    """Sufficiency and necessity of the cut through the network, to the bit, at every depth."""
    clean, corrupt = sides
    name = at(layer, "resid_pre")
    assert np.array_equal(patch(bridge, corrupt, clean, name, everywhere, pairs), clean.metric)
    assert np.array_equal(patch(bridge, clean, corrupt, name, everywhere, pairs), corrupt.metric)


def test_at_the_first_layer_the_marker_alone_carries_everything(bridge, pairs, sides):
    """The sequences differ there only, and nothing has moved yet."""
    clean, corrupt = sides
    at_marker = positions_mask([p.changed for p in pairs], clean)
    restored = patch(bridge, corrupt, clean, at(0, "resid_pre"), at_marker, pairs)
    assert np.array_equal(restored, clean.metric)
    later = patch(bridge, corrupt, clean, at(LAYERS - 1, "resid_pre"), at_marker, pairs)
    assert not np.allclose(later, clean.metric)


def test_random_positions_are_a_control_that_can_do_something(bridge, pairs, sides):
    """After the first block what follows the marker has read it."""
    clean, corrupt = sides
    where = positions_mask(random_positions(pairs, np.random.default_rng(0)), clean)
    later = patch(bridge, corrupt, clean, at(LAYERS - 1, "resid_pre"), where, pairs)
    assert not np.allclose(later, corrupt.metric)


def test_elsewhere_the_first_layer_carries_nothing(bridge, pairs, sides):
    clean, corrupt = sides
    where = positions_mask(random_positions(pairs, np.random.default_rng(0)), clean)
    assert np.array_equal(patch(bridge, corrupt, clean, at(0, "resid_pre"), where, pairs), corrupt.metric)


@pytest.mark.parametrize("site", SITES)
def test_a_partial_patch_does_something(bridge, pairs, sides, everywhere, site):
    clean, corrupt = sides
    patched = patch(bridge, corrupt, clean, at(1, site), everywhere, pairs)
    assert not np.array_equal(patched, corrupt.metric)


def test_going_on_from_the_beginning_is_reading_everything(bridge, pairs, sides):
    """The same patches of the same positions, once from the cache and once with nothing read beforehand."""
    assert sides[0].beginning.length >= 5
    whole = [run_side(bridge, pairs, Beginning(0, None), corrupt, WHOLE) for corrupt in (False, True)]
    for short, full in zip(sides, whole, strict=True):
        np.testing.assert_allclose(short.metric, full.metric, atol=1e-4)
    positions = [[*p.changed, p.start] for p in pairs]
    for component in [*WHOLE, *HEADS]:
        got, expected = (patch(bridge, b, a, component, positions_mask(positions, a), pairs) for a, b in (sides, whole))
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_marker_at_the_very_start_leaves_no_beginning(bridge, pairs):
    cut = [
        Pair(
            p.problem,
            p.clean[p.changed[0] :],
            p.corrupt[p.changed[0] :],
            [c - p.changed[0] for c in p.changed],
            p.start - p.changed[0],
        )
        for p in pairs
    ]
    beginning = read_beginning(bridge, cut)
    assert beginning == Beginning(0, None)
    assert np.isfinite(run_side(bridge, cut, beginning, False, WHOLE[:1]).metric).all()


def test_padding_does_not_count(pairs):
    assert len({len(p.clean) for p in pairs}) > 1
    ids = stacked(pairs, corrupt=False)
    logits = torch.randn(*ids.shape, 40, generator=torch.Generator().manual_seed(0))
    changed = logits.clone()
    for i, pair in enumerate(pairs):
        changed[i, len(pair.clean) - 1 :] = 0
        changed[i, : pair.start - 1] = 0
    assert np.array_equal(log_probability(changed, pairs), log_probability(logits, pairs))


def test_random_positions_are_as_many_after_the_marker_where_the_metric_reads(pairs):
    rng = np.random.default_rng(0)
    drawn = [random_positions(pairs, rng) for _ in range(20)]
    for chosen in drawn:
        for pair, positions in zip(pairs, chosen, strict=True):
            assert len(set(positions)) == len(positions) == min(len(pair.changed), len(pair.clean) - 1 - pair.start)
            assert all(pair.start <= p < len(pair.clean) - 1 for p in positions)
    assert drawn[0] != drawn[1]


def test_several_places_at_once_are_each_as_alone(bridge, pairs, sides, everywhere, monkeypatch):
    """In one forward or in several."""
    clean, corrupt = sides
    at_marker = positions_mask([p.changed for p in pairs], clean)
    elsewhere = positions_mask(random_positions(pairs, np.random.default_rng(0)), clean)
    name, places = at(1, "resid_pre"), [at_marker, elsewhere, everywhere]
    alone = np.stack([patch(bridge, corrupt, clean, name, where, pairs) for where in places])
    for rows in (512, 2 * len(pairs), 1):
        monkeypatch.setattr("interp.causal.patching.ROWS", rows)
        np.testing.assert_allclose(patch_places(bridge, corrupt, clean, name, places, pairs), alone, atol=1e-4)


def test_a_site_that_the_architecture_lacks_is_one_line(bridge, pairs):
    lacking = Component(Site(1, "resid_last"))
    with pytest.raises(InterpError, match=r"patch_sites: blocks.1.hook_resid_last: this architecture has no such site"):
        run_side(bridge, pairs, read_beginning(bridge, pairs), False, [lacking])


def test_logits_of_a_forward_stay_below_the_limit():
    """By arithmetic, for a vocabulary of 152k: 2 GB hold 32 positions of 102 rows, and one row of any length is run."""
    assert rows_together(32, 151_936) == 102
    assert 4 * 151_936 * 32 * 102 <= 2e9 < 4 * 151_936 * 32 * 103
    assert rows_together(32, 64) == 512
    assert rows_together(4096, 151_936) == 1
