"""The direct path to a site: the components add up to the residual, and each effect is that of a whole forward."""

import polars as pl
import pytest
import torch
from causal.whole import trio

from interp.errors import InterpError
from interp.features.path import EARLIER, HEADS, LOOKED, SCHEMA, SHOWN, attention, direct_path, parts, patterns
from interp.models.hooks import Site
from tests.features.test_attribution import MARGIN, PAIRS, SITES, by_hand, decided, rows


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
@pytest.mark.parametrize("site", SITES, ids=str)
def test_the_parts_add_up_to_the_residual(kind, site):
    found = decided(kind, site)
    added = list(parts(found.positive.prefixes, found.negative.prefixes, site))
    biases = 0.0
    if kind == "gpt2":  # the projections' biases are no head's
        blocks = trio(kind)["distilled"].transformer.h
        biases = sum(block.attn.c_proj.bias for block in blocks[: site.layer + 1])
    for side, name in ((found.positive, "positive"), (found.negative, "negative")):
        total = sum(getattr(part, name) for part in added) + biases
        torch.testing.assert_close(total, side.h, atol=1e-4, rtol=1e-4)
    names = [(part.component, part.layer, part.head) for part in added]
    mlps = site.layer + (site.name == "resid_post")
    heads = trio(kind)["distilled"].config.num_attention_heads
    assert len(set(names)) == len(names) == 1 + heads * (site.layer + 1) + mlps


@pytest.fixture(scope="module")
def found():
    decision = decided(site=SITES[1])
    spelled = [str(i) for i in rows("positive")[0]]
    return decision, direct_path(decision, rows("positive"), rows("negative"), spelled)


def test_an_effect_is_that_of_the_parts_difference_in_a_whole_forward(found):
    decision, table = found
    model = trio("qwen2")["distilled"]
    assert table.schema == pl.Schema(SCHEMA)
    plain = torch.stack([by_hand(model, ids, SITES[1], 0.0) for ids in rows("positive")])
    before = MARGIN.of(plain).mean()
    for part in list(parts(decision.positive.prefixes, decision.negative.prefixes, SITES[1]))[::3]:
        change = (part.negative - part.positive).double()
        logits = [by_hand(model, ids, SITES[1], change[i]) for i, ids in enumerate(rows("positive"))]
        row = table.filter(
            pl.col("component") == part.component,
            pl.col("layer").eq_missing(part.layer),
            pl.col("head").eq_missing(part.head),
        )
        assert row["effect"].item() == pytest.approx(float(before - MARGIN.of(torch.stack(logits)).mean()), abs=1e-3)
    assert table["effect"].to_list() == sorted(table["effect"].to_list(), reverse=True)


def test_shares_are_of_the_exchange_of_the_whole_site(found):
    decision, table = found
    margin, side = decision.margin, decision.positive
    exchanged = side.prefixes.logits({SITES[1]: lambda h, here: decision.negative.h[here]})
    whole = float(margin.of(side.prefixes.logits()).mean() - margin.of(exchanged).mean())
    for row in table.iter_rows(named=True):
        assert row["share"] == pytest.approx(row["effect"] / whole, abs=1e-4)


def test_attention_is_of_the_heads_with_the_largest_effect(found):
    _, table = found
    shown = table.filter(pl.col("attention").is_not_null())
    heads = table.filter(pl.col("component") == "head")
    assert shown.select("layer", "head").rows() == heads.head(SHOWN).select("layer", "head").rows()
    model = trio("qwen2")["distilled"]
    first = shown.row(0, named=True)
    model.set_attn_implementation("eager")
    for column, side in (("attention", "positive"), ("attention_negative", "negative")):
        wanted = torch.zeros(LOOKED + 1)
        for ids in rows(side):
            with torch.no_grad():
                seen = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
            weights = seen[first["layer"]][0, first["head"], -1]
            wanted[0] += weights[:-LOOKED].sum() / len(PAIRS)
            last = weights[-LOOKED:]
            wanted[LOOKED + 1 - len(last) :] += last / len(PAIRS)
        width = len(first[column])
        assert first[column] == pytest.approx([wanted[0].item(), *wanted[LOOKED + 2 - width :].tolist()], abs=1e-4)
        assert sum(first[column]) == pytest.approx(1.0, abs=1e-4)
    model.set_attn_implementation("sdpa")
    assert first["attention"] != first["attention_negative"] and len(first["tokens"]) <= LOOKED


@pytest.mark.parametrize("kept", [1, 1000])
def test_the_patterns_are_those_of_the_same_heads_over_one_text_of_each_side(found, kept, monkeypatch):
    monkeypatch.setattr("interp.features.path.PATTERN", kept)
    _, path = found
    model = trio("qwen2")["distilled"]
    sides = {side: (rows(side)[0], [f"t{i}" for i in rows(side)[0]]) for side in ("positive", "negative")}
    table = patterns(model, sides, path)
    assert table.schema == pl.Schema(HEADS)
    heads = path.filter(pl.col("attention").is_not_null()).select("layer", "head", "effect").rows()
    assert table.select("side", "layer", "head", "effect").rows() == [(s, *h) for s in sides for h in heads]
    model.set_attn_implementation("eager")
    for row in table.iter_rows(named=True):
        ids, spelled = sides[row["side"]]
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions[row["layer"]]
        wanted, n = whole[0, row["head"]], min(kept, len(ids))
        seen = torch.tensor(row["attention"], dtype=torch.float64)
        torch.testing.assert_close(seen[-n:, -n:].float(), wanted[-n:, -n:], atol=1e-5, rtol=0)
        torch.testing.assert_close(seen.sum(1), torch.ones(len(seen)).double(), atol=1e-5, rtol=0)
        assert row["tokens"] == ([EARLIER, *spelled[-n:]] if kept < len(ids) else spelled)
        assert seen.shape == (len(row["tokens"]),) * 2
    model.set_attn_implementation("sdpa")


def test_the_attentions_implementation_is_as_before():
    model = trio("qwen2")["distilled"]
    before = model.config._attn_implementation
    attention(model, rows("positive"), [(0, 1)])
    assert model.config._attn_implementation == before


def test_a_site_that_is_no_sum_is_refused():
    found = decided()
    with pytest.raises(InterpError, match="resid_mid and resid_post only"):
        list(parts(found.positive.prefixes, found.negative.prefixes, Site(1, "mlp_out")))
