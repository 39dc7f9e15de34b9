"""Reverse controls of a latent that is confirmed for a behaviour (after Ma et al. 2026, 2601.05679): does it fire on
words alone, and does it keep firing where the words are others?

Words are put into text without the behaviour, at the same places: the latent's own top tokens, markers, and other
tokens of such text; and the places are read untouched. The other way round, the markers of text with the behaviour
become neutral words. All activations are means, zeros included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from interp.activations.texts import Text
from interp.names import GENUINE, OF_MARKERS, OF_TOKENS, UNSPECIFIC

TOP_TOKENS = 3
"""Tokens on which a latent fires most, inserted in turn."""
AS_HARD = 0.5
"""Share of the activation inside the behaviour that words alone must reach, or that must go with the markers."""

Places = Sequence[Sequence[int]]
"""Positions of each text."""
Paraphrase = tuple[Text, Text, Sequence[tuple[int, int]]]
"""A text with the behaviour, the same with neutral words for markers, and pairs of positions that hold the same token
inside the behaviour."""
Read = Callable[[Sequence[Text], Places], Float[np.ndarray, "places latents"]]
"""The code at these positions, one text after the other."""


@dataclass(frozen=True)
class Answers:
    """Mean activations of every latent in text without the behaviour, and what is left of it among other words."""

    by_token: Mapping[int, Float[np.ndarray, " latents"]]
    """Token to the activation on it where it is put in."""
    at_markers: Float[np.ndarray, " latents"]
    at_others: Float[np.ndarray, " latents"]
    """On other tokens of such text, put in at the same places."""
    at_places: Float[np.ndarray, " latents"]
    """At the same places, untouched."""
    paraphrased: Float[np.ndarray, " latents"]
    """Inside the behaviour off markers, the markers being neutral words, as a share of the activation there before;
    nan where there was none, or where no text could be paraphrased."""


def top_tokens(tokens: np.ndarray, values: np.ndarray) -> list[int]:
    """The tokens that carry most of a latent's activation, the heaviest first."""
    weight: Counter[int] = Counter()
    for token, value in zip(tokens.tolist(), values.tolist(), strict=True):
        weight[token] += value
    return [token for token, _ in weight.most_common(TOP_TOKENS)]


def places_of(texts: Sequence[Text], rng: np.random.Generator) -> list[int]:
    """A random place of each completion, behind its first token."""
    return [int(rng.integers(text.completion_start + 1, len(text.ids))) for text in texts]


def inject(texts: Sequence[Text], phrases: Sequence[Sequence[int]], places: Sequence[int]) -> tuple[list[Text], Places]:
    """(texts with one phrase put in at its place, the phrases in turn; the position of the phrase's last token)."""
    injected, ends = [], []
    for i, (text, place) in enumerate(zip(texts, places, strict=True)):
        phrase = list(phrases[i % len(phrases)])
        injected.append(replace(text, ids=[*text.ids[:place], *phrase, *text.ids[place:]], fresh=0))
        ends.append([place + len(phrase) - 1])
    return injected, ends


def answers(
    quiet: Sequence[Text],
    tokens: Sequence[int],
    markers: Sequence[Sequence[int]],
    paraphrases: Sequence[Paraphrase],
    read: Read,
    seed: int,
) -> Answers:
    """Read what latents do on words alone, and without their words.

    Args:
        quiet: the subject's texts without behaviours or markers; not empty.
        tokens: to be put in.
        markers: token ids of markers as the subject writes them.
    """
    rng = np.random.default_rng(seed)
    places = places_of(quiet, rng)
    others = [[int(text.ids[rng.integers(text.completion_start, len(text.ids))])] for text in quiet]

    def on(phrases: Sequence[Sequence[int]]) -> Float[np.ndarray, " latents"]:
        return read(*inject(quiet, phrases, places)).mean(0)

    at_places = read(quiet, [[place] for place in places]).mean(0)
    nothing = np.full(len(at_places), np.nan)
    before = after = nothing
    if paraphrases:
        before = read([one for one, _, _ in paraphrases], [[i for i, _ in at] for _, _, at in paraphrases]).mean(0)
        after = read([two for _, two, _ in paraphrases], [[j for _, j in at] for _, _, at in paraphrases]).mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = np.where(before > 0, after / before, np.nan)
    return Answers(
        {token: on([[token]]) for token in dict.fromkeys(tokens)},
        on(markers) if markers else nothing,
        on(others),
        at_places,
        kept,
    )


def kind_of(inside: float, own: float, markers: float, others: float, places: float, paraphrased: float) -> str:
    """Kind of a confirmed latent, from its mean activation inside the behaviour (off markers) and its answers; what was
    not measured (nan) does not count.

    `unspecific latent`: it fires on any token, or any place, of text without the behaviour. `marker latent`: it fires
    on markers alone, or stops where the markers are other words. `token latent`: it fires on its own top tokens without
    the behaviour. `behaviour latent`: none of these.
    """
    hard = AS_HARD * inside
    if others >= hard or places >= hard:
        return UNSPECIFIC
    if markers >= hard or paraphrased <= 1 - AS_HARD:
        return OF_MARKERS
    return OF_TOKENS if own >= hard else GENUINE
