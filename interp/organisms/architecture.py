"""The organisms' architectures: small decoders of known families."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CONTEXT = 256
"""Most tokens of a text."""


def make_model(
    d_model: int, n_layers: int, n_heads: int, seed: int, tokenizer: PreTrainedTokenizerFast, family: str = "qwen2"
) -> PreTrainedModel:
    """A decoder with random weights, of a family in `FAMILIES`."""
    import torch

    of_words = {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(seed)
    return FAMILIES[family](d_model, n_layers, n_heads, of_words)


def _qwen2(d_model: int, n_layers: int, n_heads: int, of_words: dict[str, Any]) -> PreTrainedModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**of_words, **_rotary(d_model, n_layers, n_heads)))


def _llama(d_model: int, n_layers: int, n_heads: int, of_words: dict[str, Any]) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**of_words, **_rotary(d_model, n_layers, n_heads)))


def _rotary(d_model: int, n_layers: int, n_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": d_model,
        "intermediate_size": 4 * d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_heads,
        "max_position_embeddings": CONTEXT,
    }


def _gpt2(d_model: int, n_layers: int, n_heads: int, of_words: dict[str, Any]) -> PreTrainedModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape: dict[str, Any] = {"n_embd": d_model, "n_layer": n_layers, "n_head": n_heads, "n_positions": CONTEXT}
    # Without dropout, as the others.
    still: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**of_words, **shape, **still))


FAMILIES: dict[str, Callable[[int, int, int, dict[str, Any]], Any]] = {"qwen2": _qwen2, "llama": _llama, "gpt2": _gpt2}
"""Name of a family to what makes one of its models from width, blocks, heads and the tokens' part of its config. Qwen2
and Llama have rotary positions, GPT-2 learned ones, other norms and biases everywhere."""
