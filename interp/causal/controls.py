"""Control words for edits of words: phrases of like frequency for a ban, other markers for a substitution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interp.features.matched import TRIES
from interp.traces.lexicon import Lexicon
from interp.traces.phrases import canonical, pattern, words

FREQUENCY = 4.0
"""The count of control phrases may differ from that of the removed ones by this factor, either way: few words can be
replaced, and the ratio is printed."""
FEW = 12
"""Phrases of which all parts are listed; of more, parts are drawn."""


@dataclass(frozen=True)
class Drawn:
    """Control draws with what is known of their match."""

    draws: list[tuple[str, ...]]
    note: str


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
