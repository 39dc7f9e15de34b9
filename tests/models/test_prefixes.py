"""Prefixes read in parts, padded and from a cache, against whole forwards over each prefix alone, in float64."""

from functools import lru_cache, partial

import pytest
import torch
from causal.whole import activation, last_logits
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from interp.models.hooks import SITES, Site, replaying
from interp.models.prefixes import Prefixes
from interp.models.sites import decoder_blocks

SIZES = {
    "vocab_size": 37,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
CONFIGS = {
    "Llama, grouped heads": LlamaConfig(**SIZES),
    "GPT-2": GPT2Config(vocab_size=37, n_embd=16, n_layer=3, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=1),
    "Mistral, a sliding window": MistralConfig(**SIZES, sliding_window=4),
    "Qwen2, windows in some layers": Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
}
RECURRENT = Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"])
LENGTHS = (2, 9, 3, 9, 14, 5, 2)
LAYER = 1


@lru_cache
def made(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(RECURRENT if name == "LFM2" else CONFIGS[name]).double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval().requires_grad_(False)


def rows(lengths=LENGTHS):
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(3, 37, (n,), generator=draw).tolist() for n in lengths]


@torch.no_grad()
def whole(model, row):
    return model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]


def changed_at_last(model, row, site, change):
    """Logits of a whole forward in which the last position's activation alone is changed."""
    return last_logits(model, row, site.layer, site.name, lambda h: torch.cat([h[:-1], change(h[-1:])]))


def close(found, wanted):
    """Logits come back in float32."""
    torch.testing.assert_close(found, torch.stack(wanted).float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
@pytest.mark.parametrize("name", [*CONFIGS, "LFM2"])
def test_logits_are_those_of_each_prefix_alone(name, batch_size):
    model = made(name)
    close(Prefixes(model, rows(), 0, batch_size).logits(), [whole(model, row) for row in rows()])


@pytest.mark.parametrize("name", [*CONFIGS, "LFM2"])
def test_a_shared_beginning_is_read_once(name):
    """Worked examples before every prefix; a prefix that ends with them is one of the rows."""
    model, read = made(name), []
    examples = rows((40,))[0]
    texts = [examples + row for row in rows()]
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    try:
        prefixes = Prefixes(model, texts, 0, 256)
    finally:
        hook.remove()
    whole_windows = "window" in name or name == "LFM2"
    assert read == ([len(texts) * (40 + 13)] if whole_windows else [40, len(texts) * 13])
    close(prefixes.logits(), [whole(model, row) for row in texts])
    if name in CONFIGS:
        site = Site(LAYER)
        found = prefixes.logits({site: lambda h, _: 0.5 * h})
        close(found, [changed_at_last(model, row, site, lambda h: 0.5 * h) for row in texts])
    close(
        Prefixes(model, [examples, [*examples, 7]], 0).logits(), [whole(model, r) for r in (examples, [*examples, 7])]
    )


def test_the_padding_token_does_not_count():
    model = made("GPT-2")
    assert torch.equal(Prefixes(model, rows(), 0).logits(), Prefixes(model, rows(), 9).logits())


@pytest.mark.parametrize("lengths", [LENGTHS, (6, 6, 6)], ids=["padded", "of one length"])
@pytest.mark.parametrize("name", [*CONFIGS, "LFM2"])
def test_what_is_read_once_is_read_again_to_the_bit(name, lengths):
    """Also after a change, a backward pass and a read, none of which may reach what is kept."""
    prefixes, site = Prefixes(made(name), rows(lengths), 0, 3), Site(LAYER)
    first, h = prefixes.logits(), prefixes.read([site])[site]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    prefixes.logits({site: lambda h, _: scale * h + 1}).sum().backward()
    with torch.no_grad():
        prefixes.logits({Site(0): lambda h, _: 0 * h})
    assert torch.equal(prefixes.logits(), first)
    assert torch.equal(prefixes.read([site])[site], h)


@pytest.mark.parametrize("name", [*CONFIGS, "LFM2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_blocks_before_a_change_do_not_run_again(name, layer):
    model = made(name)
    prefixes, ran, hooks = Prefixes(model, rows(), 0, 3), [], []
    prefixes.logits({Site(2): lambda h, _: h})
    wrapped = vars(decoder_blocks(model)[0]).get("forward")
    for i, block in enumerate(decoder_blocks(model)):
        for part in ("mlp", "feed_forward"):
            if hasattr(block, part):
                hooks.append(getattr(block, part).register_forward_hook(lambda *_, i=i: ran.append(i)))
    try:
        same = prefixes.logits({Site(layer, "resid_pre"): lambda h, _: h})
    finally:
        for hook in hooks:
            hook.remove()
    assert ran == [*range(layer, 3)] * 3
    assert torch.equal(same, prefixes.logits())
    assert vars(decoder_blocks(model)[0]).get("forward") is wrapped


def test_a_block_with_a_forward_of_its_own_has_it_back():
    model = made("GPT-2")
    block = decoder_blocks(model)[0]
    own = block.forward = partial(block.forward)
    try:
        with pytest.raises(RuntimeError, match="stop"), replaying(model, [torch.zeros(1)]):
            assert torch.equal(block(torch.ones(1)), torch.zeros(1))
            raise RuntimeError("stop")
        assert vars(block)["forward"] is own
    finally:
        del block.forward


@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_those_of_each_prefix_alone(name):
    model, sites = made(name), [Site(layer, site) for layer in range(3) for site in SITES]
    found = Prefixes(model, rows(), 0, 3).read(sites)
    assert list(found) == sites
    for site, h in found.items():
        alone = [activation(model, site.layer, site.name, tuple(row))[-1] for row in rows()]
        torch.testing.assert_close(h, torch.stack(alone), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("site", [Site(LAYER, name) for name in SITES], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_change_is_that_of_the_last_position_in_a_whole_forward(name, site):
    """Every prefix has a change of its own, so that one given to another's row, or to an earlier position, shows."""
    model = made(name)
    prefixes, plain = Prefixes(model, rows(), 0, 3), Prefixes(model, rows(), 0, 3).logits()
    added = torch.arange(1.0, 8)[:, None]
    found = prefixes.logits({site: lambda h, here: 0.5 * h + added[here]})
    wanted = [
        changed_at_last(model, row, site, lambda h, i=i: 0.5 * h + added[i]).clone() for i, row in enumerate(rows())
    ]
    close(found, wanted)
    assert ((found - plain).abs().amax(1) > 0.01).all()
    assert torch.equal(prefixes.logits({site: lambda h, _: h}), plain)
    assert torch.equal(prefixes.logits({site: lambda h, _: h.clone()}), plain)


def test_two_changes_are_made_at_once():
    """The later site sees what the earlier change leaves."""
    model, seen = made("Llama, grouped heads"), []
    prefixes, first, second = Prefixes(model, rows(), 0), Site(0), Site(LAYER, "attn_out")
    added = torch.arange(16.0) / 8

    def keep(h, _):
        seen.append(h)
        return h

    prefixes.logits({second: keep, first: lambda h, _: h + added})
    assert not torch.allclose(seen[0], prefixes.read([second])[second])
    both = prefixes.logits({second: lambda h, _: 0 * h, first: lambda h, _: h + added})
    assert not torch.allclose(both, prefixes.logits({first: lambda h, _: h + added}))
    assert not torch.allclose(both, prefixes.logits({second: lambda h, _: 0 * h}))


def slopes(site, added):
    """For each prefix, of a weighted sum of its logits by what is added at a site, along a direction: from one backward
    pass, and as the finite difference of two whole forwards. GPT-2 alone computes all in float64."""
    model, draw, eps = made("GPT-2"), torch.Generator().manual_seed(1), 1e-4
    weights, directions = (torch.randn(7, n, dtype=torch.float64, generator=draw) for n in (37, 16))
    logits = Prefixes(model, rows(), 0, 3).logits({site: lambda h, here: h + added[here]})
    (gradient,) = torch.autograd.grad((weights * logits).sum(), added)
    up, down = (
        torch.stack(
            [changed_at_last(model, row, site, lambda h, a=a: h + a) for row, a in zip(rows(), at, strict=True)]
        )
        for at in (added.detach() + eps * directions, added.detach() - eps * directions)
    )
    return (gradient * directions).sum(1), (weights * (up - down)).sum(1) / (2 * eps)


@pytest.mark.parametrize("site", [Site(LAYER, name) for name in SITES], ids=str)
def test_gradients_are_finite_differences(site):
    added = torch.randn(7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(*slopes(site, added.requires_grad_()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    SITES,
)
def test_gradients_are_finite_differences_where_nothing_is_changed(name):
    """As on the path of integrated gradients, where a step may round to 0."""
    added = torch.zeros(7, 16, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(*slopes(Site(LAYER, name), added), atol=1e-5, rtol=1e-5)


def test_no_gradient_reaches_the_logits_without_a_change_or_where_they_are_off():
    prefixes, site = Prefixes(made("GPT-2"), rows(), 0), Site(LAYER)
    added = torch.zeros(16, requires_grad=True)
    assert not prefixes.logits().requires_grad
    with torch.no_grad():
        assert not prefixes.logits({site: lambda h, _: h + added}).requires_grad


def test_a_change_may_be_of_another_precision():
    """A float32 patch of a float64 model is cast to it."""
    model, site = made("GPT-2"), Site(LAYER)
    prefixes = Prefixes(model, rows(), 0, 3)
    h = prefixes.read([site])[site]
    torch.testing.assert_close(
        prefixes.logits({site: lambda _, here: h.float()[here]}), prefixes.logits(), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("few", [[], [[5]], [[3, 4], [5]]], ids=str)
def test_prefixes_without_a_beginning_are_refused(few):
    with pytest.raises(ValueError, match="at least two tokens of each"):
        Prefixes(made("GPT-2"), few, 0)
