"""Matched controls: latents matched where they are edited, phrases of like frequency, random directions.

What decides the size of an edit is matched, on the edited model and at the edited places; a draw that lies outside the
calliper is not used, and the achieved balance is kept as a sentence beside the arm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.traces.lexicon import Lexicon
from interp.traces.phrases import canonical, pattern, words

NEIGHBOURS = 24
"""A control latent is drawn from this many nearest neighbours."""
CALLIPER = 2.0
"""A draw's size may differ from the edit's by this factor, either way."""
FREQUENCY = 4.0
"""The count of control phrases may differ from that of the removed ones by this factor, either way: few words can be
replaced, and the ratio is printed."""
FEW = 12
"""Phrases of which all parts are listed; of more, parts are drawn."""
TRIES = 20
"""Draws that are thrown away for each one kept, before a match is given up."""


@dataclass(frozen=True)
class Drawn:
    """Control draws with what is known of their match."""

    draws: list[tuple]
    note: str


def matched_latents(
    selected: Sequence[int],
    firing: Float[np.ndarray, " latents"],
    size: Float[np.ndarray, " latents"],
    draws: int,
    seed: int,
    *,
    never: Sequence[int] = (),
) -> Drawn:
    """Sets as large as `selected`, of latents that fire at the edited places and are not in `never`, each matched to
    one of the selected in firing frequency and in mean edit, `size` = mean of f·‖d‖ per position, of the edited model
    at the edited places.

    Distance is Euclidean in the logarithms of both, in units of their spread over the latents that fire. A set whose
    summed size is not within CALLIPER of the selected set's is redrawn.
    """
    alive = np.flatnonzero((firing > 0) & (size > 0))
    z = np.stack([np.log(firing[alive]), np.log(size[alive])], axis=1)
    z = z / np.maximum(z.std(axis=0), 1e-6)
    place = {int(j): i for i, j in enumerate(alive)}
    barred = {*selected, *never}
    pool = [j for j in alive.tolist() if j not in barred]
    rng = np.random.default_rng(seed)
    wanted = float(size[list(selected)].sum())
    kept: list[tuple[int, ...]] = []
    for _ in range(TRIES * draws):
        if len(kept) == draws:
            break
        drawn = _one_set(selected, pool, place, z, rng)
        if len(drawn) == len(selected) and wanted / CALLIPER <= size[drawn].sum() <= CALLIPER * wanted:
            kept.append(tuple(drawn))
    return Drawn(list(kept), _balance(selected, kept, firing, size, len(pool), draws))


def _one_set(
    selected: Sequence[int], pool: Sequence[int], place: Mapping[int, int], z: np.ndarray, rng: np.random.Generator
) -> list[int]:
    chosen: list[int] = []
    for j in selected:
        free = [c for c in pool if c not in chosen]
        if not free or j not in place:
            return []
        distance = np.linalg.norm(z[[place[c] for c in free]] - z[place[j]], axis=1)
        nearest = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        chosen.append(free[int(rng.choice(nearest))])
    return chosen


def _balance(
    selected: Sequence[int],
    kept: Sequence[tuple[int, ...]],
    firing: np.ndarray,
    size: np.ndarray,
    pool: int,
    asked: int,
) -> str:
    if not kept:
        return f"no set of {len(selected)} of {pool} latents that fire there is within a factor {CALLIPER:g} in size"
    chosen = list(selected)
    ratios = [
        np.median([values[list(drawn)].sum() for drawn in kept]) / max(values[chosen].sum(), 1e-12)
        for values in (firing, size)
    ]
    short = "" if len(kept) == asked else f"; {len(kept)} of {asked} draws within the calliper"
    different = len({j for drawn in kept for j in drawn})
    return (
        f"matched at the edited places, controls / edit: frequency {ratios[0]:.2f}, size {ratios[1]:.2f}; "
        f"{different} different latents of {pool} that fire there{short}"
    )


def control_phrases(
    texts: Sequence[str], prompts: Sequence[str], lexicon: Lexicon, removed: Sequence[str], draws: int, seed: int
) -> Drawn:
    """Sets of phrases that could be replaced as well as the removed ones and whose count in the untouched texts is
    within FREQUENCY of theirs: the lexicon's neutral words and the words that open sentences, without markers, words of
    the mathematical class and words of the prompts. Distinct sets only, so there may be fewer than `draws`."""
    counts = {phrase: n for phrase, n in _candidates(texts, prompts, lexicon, removed).items() if n}
    wanted = sum(len(pattern(removed).findall(text)) for text in texts)
    low, high = wanted / FREQUENCY, wanted * FREQUENCY
    names = sorted(counts)
    parts = _parts(names, np.random.default_rng(seed), 4 * TRIES * draws)
    totals = ((part, sum(counts[name] for name in part)) for part in parts)
    kept = dict(itertools.islice(((part, n) for part, n in totals if low <= n <= high), draws))
    if not kept:
        return Drawn([], f"no replaceable words are as frequent as the {wanted} removed ones; the arm has no controls")
    ratio = float(np.median(list(kept.values()))) / max(wanted, 1)
    return Drawn(list(kept), f"{len(kept)} sets of {len(names)} replaceable words, {ratio:.2f} times as frequent")


def swapped_phrases(texts: Sequence[str], removed: Sequence[str], draws: int, seed: int) -> Drawn:
    """Sets of the removed phrases themselves, which are to stand in the place of all: an edit of the same places that
    keeps the style. Every set is a proper part of the phrases that occur in the untouched texts; distinct sets only."""
    said = {phrase for phrase in removed if any(pattern([phrase]).search(text) for text in texts)}
    names = sorted(said)
    if len(names) < 2:
        return Drawn([], f"{len(names)} of the removed phrases occur: none can stand for another")
    sets = list(itertools.islice(_parts(names, np.random.default_rng(seed), TRIES * draws), draws))
    return Drawn(sets, f"{len(sets)} parts of the {len(names)} removed phrases that occur, at the same places")


def _parts(names: Sequence[str], rng: np.random.Generator, tries: int) -> Iterator[tuple[str, ...]]:
    """Distinct proper parts of some names, in random order: all of few names, random ones of many."""
    if len(names) <= FEW:
        every = [part for k in range(1, len(names)) for part in itertools.combinations(names, k)]
        yield from (every[i] for i in rng.permutation(len(every)).tolist())
        return
    seen: set[tuple[str, ...]] = set()
    for _ in range(tries):
        part = tuple(sorted(rng.choice(names, size=int(rng.integers(1, len(names))), replace=False).tolist()))
        if part not in seen:
            seen.add(part)
            yield part


def _candidates(
    texts: Sequence[str], prompts: Sequence[str], lexicon: Lexicon, removed: Sequence[str]
) -> dict[str, int]:
    """Replaceable phrase to its count."""
    content = {word for prompt in prompts for word in words(prompt)} | {canonical(w) for w in lexicon.mathematical}
    markers = {word for phrase in (*lexicon.class_of, *removed) for word in words(phrase)}
    openers: dict[str, int] = {}
    for text in texts:
        for sentence in itertools.chain.from_iterable(line.split(". ") for line in text.splitlines()):
            first = words(sentence)[:1]
            for word in first:
                openers[word] = openers.get(word, 0) + 1
    usual = {word for word, n in openers.items() if n >= max(8, 0.005 * sum(openers.values()))}
    names = {canonical(word) for word in lexicon.neutral} | {word for word in usual if word.isalpha() and len(word) > 1}
    names -= content | markers
    return {name: sum(len(pattern([name]).findall(text)) for text in texts) for name in names}
