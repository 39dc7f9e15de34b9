"""Token injection (Ma et al. 2026, 2601.05679): activation on a latent's top tokens in text without the behaviour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interp.activations.texts import Text

TOP_TOKENS = 3
"""Tokens on which a latent fires most, inserted in turn."""
AS_HARD = 0.5
"""A latent whose activation on injected tokens reaches this share of that inside the behaviour is a token latent."""


def top_tokens(tokens: np.ndarray, values: np.ndarray) -> list[int]:
    """The tokens that carry most of a latent's activation, the heaviest first."""
    weight: Counter[int] = Counter()
    for token, value in zip(tokens.tolist(), values.tolist(), strict=True):
        weight[token] += value
    return [token for token, _ in weight.most_common(TOP_TOKENS)]


def inject(texts: Sequence[Text], tokens: Sequence[int], rng: np.random.Generator) -> tuple[list[Text], list[int]]:
    """(texts with one token inserted into the completion, the position of that token in each)."""
    injected, places = [], []
    for i, text in enumerate(texts):
        place = int(rng.integers(text.completion_start + 1, len(text.ids)))
        token = tokens[i % len(tokens)]
        injected.append(replace(text, ids=[*text.ids[:place], token, *text.ids[place:]], fresh=0))
        places.append(place)
    return injected, places


def kind_of(inside: float, injected: float) -> str:
    """Kind of a confirmed latent, from its mean activation inside the behaviour (off markers) and at injected tokens.

    `token latent`: it fires on its own top tokens without the behaviour. They come from rows off the markers, so the
    kind does not concern markers.
    """
    return "token latent" if injected >= AS_HARD * inside else "behaviour latent"
