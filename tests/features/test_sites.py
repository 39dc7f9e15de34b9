"""The site scan on planted activations, on a model in which one module writes the decision, and against whole forwards
patched by hand."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from causal.whole import activation, last_logits, trio
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from small import LAYERS, small_model

from interp.errors import InterpError
from interp.features.behaviour import selection_half
from interp.features.contrasts import MARKER_NEUTRAL, ONSET_FORK, WRONG_RIGHT, Contrast, Pair
from interp.features.margin import Margin
from interp.features.sites import (
    FEWEST,
    READABLE,
    SCANNED,
    Chosen,
    auroc,
    auroc_interval,
    choose_site,
    probe,
    refusal,
    scan,
)
from interp.models.hooks import Site
from interp.models.prefixes import Prefixes

SITES = [Site(layer, name) for layer in range(LAYERS) for name in SCANNED]
NUMBERS = ("auroc", "low", "high", "shuffled", "noising", "denoising")
COLUMNS = ("model", "layer", "site", "contrast", *NUMBERS, "fitted", "held_out")
whole = st.integers(-3, 3).map(float)


# Probes


def planted(size, n=200, d=8, seed=0):
    """Activations of both sides of pairs, apart by `size` along one direction; half of the pairs are chosen."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    negative, positive = rng.standard_normal((2, n, d)).astype(np.float32)
    return positive + np.float32(size) * direction.astype(np.float32), negative, np.arange(n) % 2 == 0


def test_a_probe_finds_a_planted_direction_and_nothing_where_there_is_none():
    assert auroc(*probe(*planted(6))) > 0.99
    for seed in range(5):
        assert auroc(*probe(*planted(0, seed=seed))) == pytest.approx(0.5, abs=0.15)


def test_scores_are_of_the_held_out_pairs_in_their_order():
    """A direction that is turned round in the held-out half is scored the wrong way round."""
    positive, negative, chosen = planted(6)
    first, second = probe(positive, negative, chosen)
    assert len(first) == len(second) == (~chosen).sum()
    turned = np.where(chosen[:, None], positive, negative), np.where(chosen[:, None], negative, positive)
    assert auroc(*probe(*turned, chosen)) < 0.01
    alone = positive.copy()
    alone[1] += 100
    moved, _ = probe(alone, negative, chosen)
    assert (~np.isclose(moved, first)).tolist() == [True] + [False] * 99


def test_a_probe_does_not_depend_on_the_units_of_a_dimension():
    positive, negative, chosen = planted(1)
    units = np.float32(10.0) ** np.arange(-3, 5)
    plain, scaled = auroc(*probe(positive, negative, chosen)), auroc(*probe(positive * units, negative * units, chosen))
    assert scaled == pytest.approx(plain, abs=0.02)


@given(st.lists(st.tuples(whole, whole), min_size=1, max_size=12))
@settings(max_examples=40)
def test_auroc_is_that_of_sklearn(scores):
    """Ties included."""
    positive, negative = np.array(scores).T
    labels = np.repeat([1, 0], len(scores))
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(labels, np.concatenate([positive, negative])))


def test_auroc_by_hand():
    """Of the pairs (2, 1), (2, 3), (3, 1), (3, 3): above, below, above, tied."""
    assert auroc(np.array([2.0, 3]), np.array([1.0, 3])) == 2.5 / 4


# Intervals


@given(st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=20)
def test_the_interval_is_a_point_where_all_is_separated_or_tied(n, seed):
    low, high = np.arange(n) / n, 1 + np.arange(n) / n
    assert auroc_interval(high, low, seed) == (1, 1)
    assert auroc_interval(low, high, seed) == (0, 0)
    assert auroc_interval(np.zeros(n), np.zeros(n), seed) == (0.5, 0.5)


def test_the_interval_covers():
    """AUROC of two normal distributions a distance of 1 apart is Φ(1/√2), and the sides of a pair go together."""
    truth, rng, found = 0.5 * (1 + math.erf(0.5)), np.random.default_rng(0), []
    for _ in range(100):
        shared = rng.standard_normal(60)
        positive, negative = (0.6 * shared + 0.8 * rng.standard_normal(60) + shift for shift in (1, 0))
        low, high = auroc_interval(positive, negative, 0)
        assert low <= auroc(positive, negative) <= high
        found.append(low <= truth <= high)
    assert 0.89 <= np.mean(found) <= 0.99


def test_both_sides_of_a_pair_are_drawn_together():
    """Each positive is a little above its own negative: AUROC is near .5 in every draw of pairs."""
    negative = np.arange(60.0)
    low, high = auroc_interval(negative + 0.5, negative, 0)
    assert 0.5 < low <= high < 0.53
    assert auroc_interval(negative + 0.5, negative, 0) == (low, high) != auroc_interval(negative + 0.5, negative, 1)


# The scan


def pairs_of(n, seed=0):
    """Pairs that differ in their second token alone, 5 or 6, and end with up to four others."""
    draw, pairs = np.random.default_rng(seed), []
    for i in range(n):
        first, last = int(draw.integers(7, 11)), draw.integers(7, 11, 1 + i % 4).tolist()
        pairs.append(Pair(f"p{i}", [first, 5, *last], [first, 6, *last]))
    return pairs


def margin_between(model, pairs):
    """The two tokens whose logits the sides move apart most, so that the margin is higher on the positive side."""
    positive, negative = (Prefixes(model, [getattr(p, s) for p in pairs], 0).logits() for s in ("positive", "negative"))
    moved = (positive - negative).mean(0)
    return Margin((int(moved.argmax()),), (int(moved.argmin()),), 1.0, 1.0)


@pytest.fixture(scope="module")
def relay():
    """A model whose block 1 alone writes to the residual, by its attention: before it the last position holds its own
    token, and after it all that decides."""
    model = small_model(2)
    for i, block in enumerate(model.model.layers):
        block.mlp.down_proj.weight.zero_()
        if i != 1:
            block.self_attn.o_proj.weight.zero_()
    return model


@pytest.fixture(scope="module")
def relayed(relay):
    pairs = pairs_of(160)
    contrast = Contrast(WRONG_RIGHT, pairs, margin_between(relay, pairs))
    return contrast, {(row["layer"], row["site"]): row for row in scan("distilled", relay, contrast, SITES, 0, 0, 50)}


@pytest.mark.parametrize("site", SITES, ids=str)
def test_a_decision_is_read_where_it_is_written_and_after_it(relayed, site):
    row = relayed[1][site.layer, site.name]
    assert row["low"] <= row["auroc"] <= row["high"]
    if site in (Site(1, "attn_out"), *(Site(layer, name) for layer in (1, 2) for name in READABLE if layer)):
        assert (row["noising"], row["denoising"]) == pytest.approx((1, 1), abs=1e-4)
        assert row["auroc"] > 0.9 and row["low"] > 0.8
        assert row["shuffled"] == pytest.approx(0.5, abs=0.25)
    else:  # the exchanged activations are equal
        assert (row["noising"], row["denoising"]) == (0, 0)
        assert row["auroc"] == pytest.approx(0.5, abs=0.02)


def test_rows_are_in_the_order_of_the_sites_and_say_what_was_read(relayed):
    contrast, found = relayed
    assert list(found) == [(site.layer, site.name) for site in SITES]
    chosen = selection_half([pair.problem for pair in contrast.pairs])
    for row in found.values():
        assert tuple(row) == COLUMNS
        assert (row["model"], row["contrast"]) == ("distilled", WRONG_RIGHT)
        assert (row["fitted"], row["held_out"]) == (chosen.sum(), (~chosen).sum())


def test_a_scan_is_the_same_in_parts_of_any_size(relay, relayed, monkeypatch):
    """And no forward reads more prefixes than it may."""
    contrast, whole = relayed
    from interp.models import prefixes

    seen, padded = [], prefixes.left_padded
    monkeypatch.setattr(prefixes, "left_padded", lambda rows, *rest: seen.append(len(rows)) or padded(rows, *rest))
    for row in scan("distilled", relay, contrast, SITES[-2:], 0, 0, 7):
        expected = whole[row["layer"], row["site"]]
        assert all(row[key] == pytest.approx(expected[key], abs=1e-3) for key in NUMBERS)
    assert max(seen) == 7


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
def test_noising_puts_the_negative_activation_into_the_positive_prefix(kind, monkeypatch):
    """Against whole forwards in which the last position is patched by hand, on the first held-out pairs."""
    monkeypatch.setattr("interp.features.sites.PATCHED", 5)
    monkeypatch.setattr("interp.features.sites.LEAST_GAP", 0.5)
    model, pairs = trio(kind)["distilled"], pairs_of(24)
    held_out = [pair for pair in pairs if not selection_half([pair.problem])[0]][:5]
    margin, sites = margin_between(model, held_out), [Site(1, name) for name in SCANNED]

    def mean_margin(into, site=None, source=None):
        logits = []
        for pair in held_out:
            ids = getattr(pair, into)
            there = activation(model, 1, site, tuple(getattr(pair, source)))[-1:] if site else None
            where, change = (site, lambda h, new=there: torch.cat([h[:-1], new])) if site else ("z", lambda h: h)
            logits.append(last_logits(model, ids, 1, where, change))
        return float(margin.of(torch.stack(logits)).mean())

    above, below = mean_margin("positive"), mean_margin("negative")
    assert above - below > 0.5
    apart = 0
    for row in scan("base", model, Contrast(WRONG_RIGHT, pairs, margin), sites, 0, 0, 4):
        noised = mean_margin("positive", row["site"], "negative")
        denoised = mean_margin("negative", row["site"], "positive")
        assert row["noising"] == pytest.approx((above - noised) / (above - below), abs=1e-3)
        assert row["denoising"] == pytest.approx((denoised - below) / (above - below), abs=1e-3)
        apart = max(apart, abs(row["noising"] - row["denoising"]))
    assert apart > 0.01


def test_there_is_no_share_of_no_difference(relay):
    pairs = pairs_of(24)
    margin = margin_between(relay, pairs)
    turned = Margin(margin.negative, margin.positive, 1.0, 1.0)
    same = [Pair(pair.problem, pair.positive, pair.positive) for pair in pairs]
    for contrast, has_shares in (
        (Contrast(WRONG_RIGHT, pairs, None), False),
        (Contrast(WRONG_RIGHT, same, margin), False),
        (Contrast(WRONG_RIGHT, pairs, margin), True),
        (Contrast(WRONG_RIGHT, pairs, turned), False),  # it checks less after an error
    ):
        (row,) = scan("base", relay, contrast, [Site(1)], 0, 0)
        shares = row["noising"], row["denoising"]
        assert shares == (pytest.approx((1, 1), abs=1e-4) if has_shares else (None, None))


def test_a_site_that_the_model_lacks_is_refused(relay):
    with pytest.raises(InterpError, match="no such site"):
        scan("base", relay, Contrast(WRONG_RIGHT, pairs_of(8), None), [Site(1, "resid_last")], 0, 0)


# The choice


def table(*rows):
    """Rows of (layer, site, AUROC, what a patch carries), of the distilled model's wrong / right unless more is given.
    What it carries is one number for both directions, or (noising, denoising)."""
    schema = {"layer": pl.Int64, "site": pl.String, "auroc": pl.Float64, "noising": pl.Float64, "denoising": pl.Float64}
    schema |= {"contrast": pl.String, "model": pl.String}
    full = [
        (*row[:3], *(row[3] if isinstance(row[3], tuple) else (row[3], row[3])), *(row[4:] or (WRONG_RIGHT,)))
        for row in rows
    ]
    return pl.DataFrame([row if len(row) == 7 else (*row, "distilled") for row in full], schema=schema, orient="row")


def choose(*rows):
    return choose_site(table(*rows), "distilled", least_auroc=0.9, least_carried=0.5)


GOOD = (0.95, 0.7)
CHOICES = {
    "the earliest block": ([(2, "resid_post", *GOOD), (1, "resid_post", *GOOD)], Site(1)),
    "before the MLP": ([(1, "resid_post", *GOOD), (1, "resid_mid", *GOOD)], Site(1, "resid_mid")),
    "the earliest and not the best": ([(0, "resid_post", 0.9, 0.5), (1, "resid_post", 1.0, 1.0)], Site(0)),
    "read but not carried": ([(0, "resid_post", 1.0, 0.49), (1, "resid_post", *GOOD)], Site(1)),
    "carried but not read": ([(0, "resid_post", 0.89, 1.0), (1, "resid_post", *GOOD)], Site(1)),
    "taken away but not brought about": ([(0, "resid_post", 1.0, (1.0, 0.49)), (1, "resid_post", *GOOD)], Site(1)),
    "brought about but not taken away": ([(0, "resid_post", 1.0, (0.49, 1.0)), (1, "resid_post", *GOOD)], Site(1)),
    "no margin": ([(0, "resid_post", 1.0, None), (1, "resid_post", *GOOD)], Site(1)),
    "no output of a module": ([(0, "attn_out", *GOOD), (0, "mlp_out", *GOOD), (1, "resid_post", *GOOD)], Site(1)),
    "no other model": ([(0, "resid_post", *GOOD, WRONG_RIGHT, "base"), (1, "resid_post", *GOOD)], Site(1)),
    "no other contrast": ([(0, "resid_post", *GOOD, ONSET_FORK), (1, "resid_post", *GOOD)], Site(1)),
    "the error before the word": (
        [(0, "resid_post", 1.0, 1.0, MARKER_NEUTRAL), (2, "resid_mid", *GOOD)],
        Site(2, "resid_mid"),
    ),
}


@pytest.mark.parametrize(("rows", "expected"), CHOICES.values(), ids=CHOICES)
def test_a_site_by_hand(rows, expected):
    for order in (rows, rows[::-1]):
        found = choose(*order)
        assert (found.site, found.contrast) == (expected, WRONG_RIGHT)


def test_the_word_is_read_where_the_error_is_not():
    found = choose((0, "resid_post", 0.6, 1.0), (1, "resid_mid", 0.97, (0.92, 0.81), MARKER_NEUTRAL))
    assert found == Chosen(
        Site(1, "resid_mid"),
        MARKER_NEUTRAL,
        "marker / neutral can be read at blocks.1.hook_resid_mid: AUROC 0.970, a patch carries 81% of the margin",
    )


@pytest.mark.parametrize(("passing", "expected"), [((1,), 1), ((0, 1), 0), ((0, 2, 3), 2), ((0, 1, 2, 3, 4), 2)])
def test_the_word_is_read_at_the_middle_of_the_sites_that_pass(passing, expected):
    rows = [(layer, "resid_post", *(GOOD if layer in passing else (0.8, 1.0)), MARKER_NEUTRAL) for layer in range(5)]
    for order in (rows, rows[::-1]):
        assert choose(*order).site == Site(expected)


MARKER_MISSING = "; marker / neutral: too few pairs"
REFUSALS = {
    "nothing scanned": ([], "wrong / right: too few pairs" + MARKER_MISSING),
    "another model's": (
        [(0, "resid_post", *GOOD, WRONG_RIGHT, "base")],
        "wrong / right: too few pairs" + MARKER_MISSING,
    ),
    "not read": (
        [(0, "resid_post", 0.61, 0.8), (1, "resid_mid", 0.734, None), (2, "resid_post", 0.7, 1.0)],
        "wrong / right: cannot be read, the best AUROC is 0.734 at blocks.1.hook_resid_mid (0.9 asked)"
        + MARKER_MISSING,
    ),
    "not carried": (  # where it carries most, of the sites that can be read
        [(0, "resid_post", 0.99, 0.12), (1, "resid_mid", 0.93, (0.34, 0.7)), (2, "resid_post", 0.8, 0.9)],
        "wrong / right: can be read at blocks.1.hook_resid_mid, but a patch carries 34% of the margin (50% asked)"
        + MARKER_MISSING,
    ),
    "no margin": (
        [(0, "resid_post", 0.95, None), (1, "resid_post", 0.93, None)],
        "wrong / right: can be read at blocks.{}.hook_resid_post, but the margins of its sides do not differ"
        + MARKER_MISSING,
    ),
    "neither": (
        [(0, "resid_post", 0.5, 0.0), (1, "resid_post", 0.91, 0.2, MARKER_NEUTRAL)],
        "wrong / right: cannot be read, the best AUROC is 0.500 at blocks.0.hook_resid_post (0.9 asked); "
        "marker / neutral: can be read at blocks.1.hook_resid_post, but a patch carries 20% of the margin (50% asked)",
    ),
}


@pytest.mark.parametrize(("rows", "why"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_names_the_numbers(rows, why):
    found = choose(*rows)
    assert (found.site, found.contrast) == (None, None)
    assert found.why in (why, why.format(0), why.format(1))


@pytest.mark.parametrize("contrast", [WRONG_RIGHT, MARKER_NEUTRAL])
def test_latents_are_sought_where_their_own_contrast_passes(contrast):
    """At the given site alone; other sites, contrasts and models do not make up for it."""
    other = MARKER_NEUTRAL if contrast == WRONG_RIGHT else WRONG_RIGHT
    good = (1, "resid_mid", 0.9, 0.5, contrast)
    elsewhere = [
        (1, "resid_post", *GOOD, contrast),
        (2, "resid_mid", *GOOD, contrast),
        (1, "resid_mid", *GOOD, other),
        (1, "resid_mid", *GOOD, contrast, "base"),
    ]

    def why(*rows):
        where = Site(1, "resid_mid")
        return refusal(table(*rows), "distilled", contrast, where, least_auroc=0.9, least_carried=0.5)

    assert why(*elsewhere, good) is None
    assert why(*elsewhere) == f"{contrast}: fewer than {FEWEST} pairs in a half of the problems"
    assert why(*elsewhere, (1, "resid_mid", 0.89, 1.0, contrast)) == (
        f"{contrast}: cannot be read, the best AUROC is 0.890 at blocks.1.hook_resid_mid (0.9 asked)"
    )
    assert why(*elsewhere, (1, "resid_mid", 1.0, 0.49, contrast)) == (
        f"{contrast}: can be read at blocks.1.hook_resid_mid, but a patch carries 49% of the margin (50% asked)"
    )


share = st.none() | st.sampled_from([0.0, 0.4, 0.5, 0.9, 1.0, 1.2])
scanned = st.tuples(
    st.integers(0, 3),
    st.sampled_from(SCANNED),
    st.sampled_from([0.5, 0.89, 0.9, 1.0]),
    share,
    st.sampled_from([WRONG_RIGHT, ONSET_FORK, MARKER_NEUTRAL]),
    st.sampled_from(["base", "distilled"]),
)


@given(st.lists(scanned, max_size=16))
def test_the_choice_is_the_first_that_passes_in_the_order_of_computation(rows):
    passed = [
        ([WRONG_RIGHT, MARKER_NEUTRAL].index(contrast), layer, READABLE.index(site))
        for layer, site, read, carried, contrast, model in rows
        if contrast != ONSET_FORK and site in READABLE and model == "distilled"
        if read >= 0.9 and carried is not None and carried >= 0.5
    ]
    found = choose(*rows)
    if not passed:
        assert found.site is None and found.contrast is None and found.why
        return
    contrast, layer, site = min(passed)
    assert (found.site, found.contrast) == (Site(layer, READABLE[site]), [WRONG_RIGHT, MARKER_NEUTRAL][contrast])
