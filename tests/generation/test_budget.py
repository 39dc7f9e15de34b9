"""The arithmetic of memory, against the bytes of tensors that real models make."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, DynamicCache, Gemma3Config, GPT2Config, LlamaConfig, Qwen2Config

from interp.errors import InterpError
from interp.generation.budget import (
    SHARE,
    batches_by_tokens,
    free_budget,
    rows_that_fit,
    shared_out,
    sizes,
)
from interp.memory import main_memory

QWEN = Qwen2Config(
    vocab_size=151_936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    max_position_embeddings=32_768,
    tie_word_embeddings=True,
)
CONFIGS = {
    "Qwen2.5-1.5B": QWEN,
    "Llama, heads wider than their share": LlamaConfig(
        vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32
    ),
    "GPT-2": GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=300, bos_token_id=1, eos_token_id=1),
    "Gemma 3, a config that holds the text's": Gemma3Config(
        text_config={"vocab_size": 500, "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}
    ),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_are_those_of_a_models_own_tensors(name, dtype):
    text, rows, tokens = CONFIGS[name].get_text_config(), 3, 16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text, dtype=dtype)
        ids = torch.zeros(rows, tokens, dtype=torch.long)
    cache, seen = DynamicCache(config=text), {}
    for module_name, module in model.named_modules():
        module.register_forward_hook(lambda m, a, out, name=module_name: seen.setdefault(name, out))
    with torch.no_grad():
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    found = sizes(CONFIGS[name], dtype)
    assert sum(k.nbytes + v.nbytes for k, v, _ in cache) == rows * tokens * found.kv_per_token
    copied = logits.float().nbytes if dtype != torch.float32 else 0
    assert logits.nbytes + copied == rows * found.logits_per_position
    embedded = next(out for out in seen.values() if getattr(out, "shape", ())[-1:] == (text.hidden_size,))
    inner = max(
        out.nbytes for out in seen.values() if isinstance(out, torch.Tensor) and out.shape[:2] == (rows, tokens)
    )
    assert rows * tokens * found.residual_per_token == 2 * embedded.nbytes + 2 * inner


def test_how_many_rows_of_qwen_fit_into_80_gb():
    """28 layers x 2 heads x 128 x keys and values x 2 bytes = 28,672 bytes per token; 4,096 of them are 117 MB, and the
    first forward's residuals 172 MB more."""
    found = sizes(QWEN, torch.bfloat16)
    assert (found.kv_per_token, found.logits_per_position) == (28_672, 151_936 * 6)
    assert found.row(4096) == 4096 * (28_672 + 41_984) + 911_616 == 290_318_592
    assert rows_that_fit(QWEN, 4096, 80 * 10**9, torch.bfloat16) == 275
    assert rows_that_fit(QWEN, 4096, 80 * 10**9, torch.float32) == 138
    assert rows_that_fit(QWEN, 4096, 80 * 10**9, torch.bfloat16, models=3) == 91
    assert rows_that_fit(QWEN, 4096, 80 * 10**9, torch.bfloat16, logits_positions=4096) == 19
    assert rows_that_fit(QWEN, 4096, 80 * 10**9, torch.bfloat16, cached=False) == 462
    assert 80 * 10**9 // found.row(4096, new_tokens=1) == 675, "where the prompts are short"


@pytest.mark.parametrize("models", [1, 3])
def test_as_many_rows_as_fit_and_no_more(models):
    row = models * sizes(QWEN, torch.float32).row(100)
    assert rows_that_fit(QWEN, 100, row, torch.float32, models) == 1
    assert rows_that_fit(QWEN, 100, 2 * row - 1, torch.float32, models) == 1
    assert rows_that_fit(QWEN, 100, 2 * row, torch.float32, models) == 2
    with pytest.raises(InterpError, match=r"100 tokens in \d model\(s\) takes .* lower the number of tokens"):
        rows_that_fit(QWEN, 100, row - 1, torch.float32, models)


def test_the_budget_is_a_share_of_the_free_memory(monkeypatch):
    free = main_memory().free
    assert 0.5 * SHARE * free < free_budget(torch.device("cpu")) < 1.5 * SHARE * free
    answers = {"mem_get_info": (30_000, 80_000), "memory_reserved": 12_000, "memory_allocated": 2000}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)
    assert free_budget(torch.device("cuda"), 0.5) == 20_000


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 9), st.integers(1, 100))
def test_every_item_is_in_one_batch_and_no_batch_is_too_large(lengths, rows, tokens):
    batches = batches_by_tokens(lengths, rows, tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) <= rows
        assert len(batch) * longest <= tokens or len(batch) == 1
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    for batch, _ in itertools.pairwise(batches):
        longest = lengths[batch[0]]
        assert len(batch) == rows or (len(batch) + 1) * longest > tokens, "one more would have fitted"


def test_batches():
    assert batches_by_tokens([3, 9, 3, 1, 8], rows=2, tokens=20) == [[1, 4], [0, 2], [3]]
    assert batches_by_tokens([3, 9, 3, 1, 8], rows=9, tokens=17) == [[1], [4, 0], [2, 3]]
    assert batches_by_tokens([50, 2, 2], rows=9, tokens=10) == [[0], [1, 2]]
    assert batches_by_tokens([], rows=9, tokens=10) == []


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(10**6, (4, 249_990)), (80, (4, 10)), (79, (3, 16)), (40, (2, 10)), (39, (1, 39)), (1, (1, 1))],
)
def test_copies_of_the_models_take_at_most_half_of_the_budget(budget, expected):
    """A copy takes 10; with one process there is none."""
    assert shared_out(budget, 4, 10) == expected
