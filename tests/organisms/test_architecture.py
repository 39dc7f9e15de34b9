"""The families' models: reproducible, of the asked shape, and each weight trained by the optimizer that suits it."""

import pytest
import torch

from interp.config import check_config
from interp.models.optimizer import MuonAdamW
from interp.models.sites import decoder_blocks
from interp.organisms.architecture import CONTEXT, FAMILIES, make_model
from interp.organisms.chains import CHAINS
from interp.organisms.recipes import organism_base
from interp.organisms.tokenizers import vocabulary

families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_a_seed_gives_the_same_weights_and_another_seed_others(family):
    one, again, other = (
        make_model(16, 2, 4, seed, CHAINS.tokenizer(), family=family).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@families
def test_the_shape_is_the_asked_one(family):
    model = make_model(16, 3, 4, 0, CHAINS.tokenizer(), family=family)
    config = model.config.get_text_config()
    assert model.config.model_type == family and len(decoder_blocks(model)) == 3
    assert (config.hidden_size, config.num_attention_heads, config.vocab_size) == (
        16,
        4,
        len(vocabulary(CHAINS.tokenizer())),
    )
    assert config.max_position_embeddings == CONTEXT
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


@families
def test_what_it_says_depends_on_earlier_tokens_and_not_on_later_ones(family):
    model = make_model(16, 2, 4, 0, CHAINS.tokenizer(), family=family).eval()
    ids = torch.tensor([[3, 4, 5, 6], [7, 4, 5, 6], [3, 4, 5, 9]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert not torch.allclose(logits[0, 2], logits[1, 2])
    assert torch.equal(logits[0, :3], logits[2, :3])


@families
def test_muon_takes_the_blocks_matrices_and_adamw_all_else(family):
    model = make_model(16, 2, 4, 0, CHAINS.tokenizer(), family=family)
    muon, adam = (part.param_groups[0]["params"] for part in MuonAdamW(model, 0.01, 0.001)._parts)
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {names[id(p)] for p in muon}
    assert len(muon) + len(adam) == len(names) and inside.isdisjoint(names[id(p)] for p in adam)
    assert all(".layers." in name or ".h." in name for name in inside)
    assert len(inside) == 2 * {"qwen2": 7, "llama": 7, "gpt2": 4}[family]
    assert all("bias" in names[id(p)] or "norm" in names[id(p)] or "ln_" in names[id(p)] or p.ndim == 2 for p in adam)


@families
def test_an_organism_is_of_the_family_of_its_config(family):
    base = organism_base(check_config({"organism": {"family": family, "pretraining": {"steps": 1}}}, "x"))
    assert base.start()[0].config.model_type == family
