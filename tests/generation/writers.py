"""Decoders whose texts a test decides: a bigram table over random cuts of given texts, or a script."""

import itertools
import random
from functools import lru_cache

import torch
from small import byte_tokenizer

from interp.generation.vocabulary import read_vocabulary
from interp.traces.lexicon import Lexicon
from interp.traces.tokens import encode

LEXICON = Lexicon(
    "test",
    1,
    {
        "realization": ("wait", "hold on", "hmm"),
        "verification": ("let me double-check", "check", "let's see"),
        "connectors": ("but", "however"),
    },
    (),
    ("next", "now", "here we go"),
    ", fine.",
)
TEXTS = (
    "We add. But wait, the button is here; await an attribute.\nHold\non, let me double-check. Hmm, however: 3 + 4 = 7",
    " but the buttons wait. Let’s see (wait) check\nBut I checked, HOWEVER hold  on\nhold on, hmm",
    "Wait. wait-time waits; let me\ndouble-check it, let's see but, but; hold only butter. Check, check!",
)
"""Markers whole, inside words, capital, over line breaks, with a curly apostrophe, at the ends of a text."""


@lru_cache
def tokenizer_of(vocab_size):
    """A byte-level BPE: near 257 ids nearly every letter is a token, from 330 on most words are."""
    return byte_tokenizer(list(TEXTS) * 2, vocab_size=vocab_size)


@lru_cache
def vocabulary_of(vocab_size):
    tokenizer = tokenizer_of(vocab_size)
    return read_vocabulary(tokenizer, len(tokenizer))


def cut(vocabulary, text, rng):
    """Ids of a random way to spell a text; characters without an id of their own are spelled by the tokenizer."""
    by_piece, ids = vocabulary._id_of, []
    while text:
        fitting = [n for n in range(1, min(len(text), 16) + 1) if text[:n] in by_piece]
        if fitting:
            n = rng.choice(fitting)
            ids.append(by_piece[text[:n]])
        else:
            n = 1
            ids += encode(vocabulary.tokenizer, text[:1])
        text = text[n:]
    return ids


class Bigram:
    """Reads only the last token: logits are a row of a table."""

    device = torch.device("cpu")

    def __init__(self, table):
        self.table = table

    def start(self):
        pass

    def sees_all(self, positions):
        return True

    def step(self, ids, mask, parts):
        return self.table[ids[:, -1]].clone()

    def select(self, rows):
        pass


@lru_cache
def bigram(vocab_size, seed=0, cuts=60):
    """A writer of mixtures of the texts above, cut in every way."""
    vocabulary, rng = vocabulary_of(vocab_size), random.Random(seed)
    counts = torch.full((len(vocabulary), len(vocabulary)), 1e-4)
    for _ in range(cuts):
        for text in TEXTS:
            ids = [*cut(vocabulary, text, rng), 0]
            for a, b in itertools.pairwise(ids):
                counts[a, b] += 1
    return Bigram(counts.log())
