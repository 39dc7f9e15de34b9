"""Token injection (Ma et al. 2026, 2601.05679): does a latent fire on its words alone, where there is no behaviour?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from interp.activations.harvest import Text

TOP_TOKENS = 3
"""Tokens on which a latent fires hardest, inserted in turn."""
AS_HARD = 0.5
"""A latent that reaches this share of its activation inside the behaviour on injected tokens alone is lexical."""


def top_tokens(tokens: np.ndarray, values: np.ndarray) -> list[int]:
    """The tokens that carry most of a latent's activation, the heaviest first."""
    weight: Counter[int] = Counter()
    for token, value in zip(tokens.tolist(), values.tolist(), strict=True):
        weight[token] += value
    return [token for token, _ in weight.most_common(TOP_TOKENS)]


def inject(texts: Sequence[Text], tokens: Sequence[int], rng: np.random.Generator) -> tuple[list[Text], list[int]]:
    """Insert one token into the completion of every text; also the position at which it stands."""
    injected, places = [], []
    for i, text in enumerate(texts):
        place = int(rng.integers(text.completion_start + 1, len(text.ids)))
        token = tokens[i % len(tokens)]
        injected.append(
            Text([*text.ids[:place], token, *text.ids[place:]], text.model, text.problem, text.completion_start)
        )
        places.append(place)
    return injected, places


def kind_of(inside: float, injected: float) -> str:
    """What a confirmed latent is, from its mean activation inside the behaviour (off markers) and at injected
    tokens."""
    return "token latent" if injected >= AS_HARD * inside else "behaviour latent"
