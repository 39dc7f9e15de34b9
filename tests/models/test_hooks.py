"""Sites of three architectures against hooks and hidden states of their own, and architectures that are refused."""

import pytest
import torch
from causal.whole import KINDS, WIDTH, activation, at_site, trio
from transformers import AutoConfig, AutoModelForCausalLM

from interp.errors import InterpError
from interp.models.hooks import SITES, Site, changing, check_site, read_sites, site_width
from interp.models.sites import decoder_blocks

IDS = [3, 4, 5, 9, 14]
INPUT = {"input_ids": torch.tensor([IDS]), "use_cache": False}


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_reading_all_sites_at_once(kind, layer):
    model = trio(kind)["base"]
    sites = tuple(Site(layer, name) for name in SITES)
    found = read_sites(model, sites, **INPUT)
    assert set(found) == set(sites)
    for site, h in found.items():
        check_site(model, site)
        assert h.shape == (1, len(IDS), site_width(model, site)) == (1, len(IDS), WIDTH)
        torch.testing.assert_close(h[0], activation(model, layer, site.name, tuple(IDS)))
    by_name = {site.name: h for site, h in found.items()}
    torch.testing.assert_close(by_name["resid_mid"], by_name["resid_pre"] + by_name["attn_out"])
    torch.testing.assert_close(by_name["resid_post"], by_name["resid_mid"] + by_name["mlp_out"])
    hidden = model(output_hidden_states=True, **INPUT).hidden_states
    assert torch.equal(by_name["resid_pre"], hidden[layer])


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_blocks_above_the_last_site_do_not_run(kind):
    model, ran = trio(kind)["base"], []
    handles = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(decoder_blocks(model))
    ]
    read_sites(model, (Site(0, "z"), Site(1, "attn_out")), **INPUT)
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_change_is_what_the_model_goes_on_with(kind, name):
    from contextlib import ExitStack

    model, site = trio(kind)["base"], Site(1, name)
    plain = model(**INPUT).logits
    with changing(model, {site: lambda h: h.clone()}):
        assert torch.equal(model(**INPUT).logits, plain)
    with changing(model, {site: lambda h: 0.5 * h + 1}):
        changed = model(**INPUT).logits
    with ExitStack() as stack:
        at_site(model, 1, name, lambda h: 0.5 * h + 1, stack)
        torch.testing.assert_close(changed, model(**INPUT).logits, atol=1e-4, rtol=1e-4)
    assert (changed - plain).abs().max() > 0.1
    assert torch.equal(model(**INPUT).logits, plain)


@pytest.mark.parametrize("name", SITES)
@torch.inference_mode()
def test_two_sites_of_one_block_see_each_other_whatever_the_order(name):
    """A site is read as the changes before it leave it, and a change at `resid_pre` comes first."""
    model = trio("llama")["base"]
    for sites in ((Site(1, "resid_pre"), Site(1, name)), (Site(1, name), Site(1, "resid_pre"))):
        seen = {}

        def keep(h, seen=seen):
            seen["h"] = h
            return h

        if name == "resid_pre":
            continue
        changes = {site: (keep if site.name == name else (lambda h: h + 1)) for site in sites}
        with changing(model, changes):
            model(**INPUT)
        with changing(model, {Site(1, "resid_pre"): lambda h: h + 1}):
            wanted = read_sites(model, (Site(1, name),), **INPUT)[Site(1, name)]
        torch.testing.assert_close(seen["h"], wanted)


def test_hooks_are_gone_after_an_error():
    model = trio("gpt2")["base"]
    before = [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in model.modules()]

    def broken(h):
        raise ZeroDivisionError

    for name in SITES:
        with pytest.raises(ZeroDivisionError), changing(model, {Site(1, name): broken, Site(0, "z"): lambda h: h}):
            model(**INPUT)
    assert [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in model.modules()] == before


def test_sites_have_transformer_lens_names():
    assert [str(Site(3, name)) for name in SITES] == [
        "blocks.3.hook_resid_pre",
        "blocks.3.hook_resid_mid",
        "blocks.3.hook_resid_post",
        "blocks.3.hook_attn_out",
        "blocks.3.hook_mlp_out",
        "blocks.3.attn.hook_z",
    ]


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site(3), r"blocks.3.hook_resid_post: the model has blocks 0 to 2; choose one of them"),
        (Site(-1, "z"), "blocks 0 to 2"),
        (Site(0, "resid"), "no such site; choose one of resid_pre, resid_mid"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_does_not_have_is_refused(kind, site, message):
    with pytest.raises(InterpError, match=message):
        check_site(trio(kind)["base"], site)


SIZES = {
    "vocab_size": 41,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
    "max_position_embeddings": 64,
}
GPT_SIZES = {"n_embd": 16, "n_layer": 2, "n_head": 2}
SUMS = ("resid_mid", "attn_out", "mlp_out")
REFUSED = {
    "qwen3": (),
    "gemma2": SUMS,
    "olmo2": SUMS,
    "glm4": SUMS,
    "granite": SUMS,
    "bloom": SUMS,
    "gpt_neox": ("resid_mid",),
    "phi": ("resid_mid",),
    "gpt_neo": ("z",),
}


@pytest.mark.parametrize("kind", REFUSED)
@torch.inference_mode()
def test_sites_are_what_they_are_called_or_are_refused(kind):
    """Norms after a module, scaled or parallel outputs: what is not refused obeys the sums of the residual stream."""
    extra = {
        "granite": {"residual_multiplier": 0.3},
        "bloom": GPT_SIZES,
        "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SIZES | extra.get(kind, {})))).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn(parameter.shape))
    refused = []
    for name in SITES:
        try:
            check_site(model, Site(1, name))
        except InterpError as error:
            assert f"hook_{name}" in str(error)
            refused.append(name)
    assert tuple(refused) == REFUSED[kind]
    kept = [name for name in SITES if name not in refused]
    h = {site.name: x for site, x in read_sites(model, tuple(Site(1, n) for n in kept), **INPUT).items()}
    if {"attn_out", "mlp_out"} <= set(kept):
        torch.testing.assert_close(h["resid_post"], h["resid_pre"] + h["attn_out"] + h["mlp_out"])
    if "resid_mid" in kept:
        torch.testing.assert_close(h["resid_mid"], h["resid_pre"] + h["attn_out"])
