"""Tokenizers of three kinds, so that nothing rests on how an organism's words are cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
SPECIAL = (PAD, EOS, UNK)
"""The first ids of every tokenizer, in this order."""


def words(listed: Iterable[str]) -> PreTrainedTokenizerFast:
    """One id for each of the listed words, in their order; texts are split at white space and joined by one space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *listed))}, unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.decoder = decoders.WordPiece(prefix="\u2581", cleanup=False)  # joins words with one space
    return _wrapped(inner)


def characters(alphabet: Iterable[str]) -> PreTrainedTokenizerFast:
    """One id for each character of the alphabet, in its order; white space is a character too."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate((*SPECIAL, *alphabet))}, unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return _wrapped(inner)


def byte_pairs(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte pairs, GPT-2's pre-tokenisation, learned from the texts up to `size` ids; the same texts give
    the same ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE(unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return _wrapped(inner)


def _wrapped(inner: Any) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=EOS, unk_token=UNK, padding_side="left"
    )


def vocabulary(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Every token, in the order of the ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)
