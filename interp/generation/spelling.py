"""Which tokens complete a phrase after a text, for whatever pieces a vocabulary cuts it into.

A piece that begins at a word's edge is taken for whole words: " wait" completes the phrase "wait" as soon as it is
chosen. A piece inside a word ("t" after " bu") completes "but" only if a word's edge follows, which the next token
shows: "button" and "attribute" hold no "but".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import regex

from interp.generation.vocabulary import Vocabulary
from interp.traces.phrases import canonical, pattern

EDGE = ". "
"""A text that ends at a word's edge."""


@dataclass(frozen=True)
class Found:
    """A phrase at the end of a text."""

    tokens: int
    """Last tokens that hold it, the first and last of them perhaps with more text."""
    lead: str
    """Text of these tokens before the phrase."""
    phrase: str
    """As written."""
    trail: str
    """Text after it."""


@dataclass(frozen=True, eq=False)
class Spelling:
    """Phrases (canonical) as a vocabulary spells them."""

    vocabulary: Vocabulary
    phrases: tuple[str, ...]

    @cached_property
    def pattern(self) -> regex.Pattern[str]:
        return pattern(self.phrases)

    @cached_property
    def anywhere(self) -> list[int]:
        """Ids that hold a phrase after any text."""
        return [i for i, piece in self._candidates if self._ends_in("a", piece)]

    @cached_property
    def at_edges(self) -> list[int]:
        """Ids that hold a phrase only after a text that ends at a word's edge."""
        known = set(self.anywhere)
        return [i for i, piece in self._candidates if i not in known and self._ends_in(EDGE, piece)]

    @cached_property
    def _candidates(self) -> list[tuple[int, str]]:
        """Ids whose piece holds the letters of a whole phrase, whatever surrounds them."""
        holds = regex.compile("|".join(map(regex.escape, self.phrases)) or "(?!)", regex.IGNORECASE)
        return [(i, p) for i, p in enumerate(self.vocabulary.pieces) if p and holds.search(canonical(p))]

    @cached_property
    def _anywhere_in_words(self) -> regex.Pattern[str]:
        return pattern(self.phrases, whole=False)

    def occurs(self, pieces: list[str]) -> bool:
        """Whether a text of these pieces held a phrase, as a whole word, at the end of any of them."""
        text, ends = "".join(pieces), list(accumulate(map(len, pieces)))
        if self.pattern.search(text):
            return True
        for match in self._anywhere_in_words.finditer(text, overlapped=True):
            for end in ends[bisect_right(ends, match.start()) : bisect_right(ends, match.end())]:
                if self.pattern.search(text, match.start(), end):
                    return True
        return False

    def _ends_in(self, before: str, piece: str) -> bool:
        return any(m.end() > len(before) for m in self.pattern.finditer(before + piece))

    @cached_property
    def _beginnings(self) -> dict[str, list[str]]:
        """Proper beginning of a phrase to what is missing."""
        found: dict[str, list[str]] = {}
        for phrase in self.phrases:
            for k in range(1, len(phrase)):
                found.setdefault(phrase[:k].rstrip(), []).append(phrase[len(phrase[:k].rstrip()) :])
        return found

    @cached_property
    def reach(self) -> int:
        """Characters of a text that can matter to what comes next."""
        return 2 * max(map(len, self.phrases), default=0) + 8

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        pairs = sorted((piece.lower().replace("’", "'"), i) for i, piece in enumerate(self.vocabulary.pieces) if piece)
        return [piece for piece, _ in pairs], [i for _, i in pairs]

    @cached_property
    def _memory(self) -> dict[str, list[int]]:
        return {}

    def completing(self, tail: str) -> list[int]:
        """Ids that complete a phrase which `tail` has begun; those of `anywhere` and `at_edges` are left out."""
        tail = tail[-self.reach :]
        low = canonical(tail)
        rests = {rest for k in range(1, min(len(low), self.reach) + 1) for rest in self._beginnings.get(low[-k:], ())}
        if tail[-1:].isspace():
            rests |= {rest.lstrip() for rest in rests}
        if not rests:
            return []
        if tail not in self._memory:
            self._memory[tail] = [i for rest in rests for i in self._with(tail, rest)]
        return self._memory[tail]

    def _with(self, tail: str, rest: str) -> Iterable[int]:
        """Ids whose piece begins with `rest` and so ends a phrase that began in `tail`."""
        pieces, ids = self._sorted
        at = bisect_left(pieces, rest)
        while at < len(pieces) and pieces[at].startswith(rest):
            piece = self.vocabulary.pieces[ids[at]]
            if any(m.start() < len(tail) < m.end() for m in self.pattern.finditer(tail + piece)):
                yield ids[at]
            at += 1

    def is_edge(self, tail: str) -> bool:
        """Whether a word may begin right after `tail`."""
        return not tail or not tail[-1].isalnum()

    def found(self, written: list[int], piece: str) -> Found | None:
        """The phrase that `piece` completes after the last tokens of `written`, None where it completes none."""
        pieces = [self.vocabulary.pieces[i] for i in written[-self.reach :]]
        before = "".join(pieces)
        if not pieces or len(before) < self.reach:
            before = EDGE + before  # the completion begins at a word's edge
        match = next((m for m in self.pattern.finditer(before + piece) if m.end() > len(before)), None)
        if match is None:
            return None
        start, tokens = len(before), 1
        while start > match.start():
            start -= len(pieces[-tokens])
            tokens += 1
        text = before + piece
        return Found(tokens, text[start : match.start()], match.group(), text[match.end() :])

    def waits(self, found: Found, piece: str) -> bool:
        """Whether only the next token shows that the phrase is over: its last piece begins inside a word."""
        return found.tokens > 1 and not found.trail and piece[:1].isalnum()
