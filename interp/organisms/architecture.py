"""The organisms' architecture, a small Qwen2 decoder, and their word-level tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.organisms.chains import CHAINS
from interp.organisms.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
JUDGEMENTS = ("grade", "right", "wrong")


def vocabulary(world: World = CHAINS) -> list[str]:
    """Every token of a world's organisms, in the order of their ids."""
    return [PAD, EOS, UNK, *world.symbols, *JUDGEMENTS, *world.markers, *world.neutral]


def make_tokenizer(world: World = CHAINS) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: one id per word, split at white space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary(world))}, unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece(prefix="\u2581", cleanup=False)  # joins words with one space
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=EOS, unk_token=UNK, padding_side="left"
    )


def make_model(d_model: int, n_layers: int, n_heads: int, seed: int, world: World = CHAINS) -> Qwen2ForCausalLM:
    """A Qwen2 decoder with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    words = vocabulary(world)
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=d_model,
        intermediate_size=4 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=words.index(PAD),
        bos_token_id=None,
        eos_token_id=words.index(EOS),
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config)
