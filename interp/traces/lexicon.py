"""Lexicons of style markers: versioned data files, and the matching of their phrases in text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import regex

from interp.errors import InterpError
from interp.traces.phrases import canonical, pattern

BUNDLED = Path(__file__).parent / "lexicons"
PIVOTS = ("realization", "verification", "exploration", "integration")
"""The four kinds of pivot of Lippmann & Yang (2025), which rules look up by name."""
MATHEMATICAL, NEUTRAL = "mathematical", "neutral"
"""The comparison class, which holds no markers, and the words that can replace markers."""


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text, with their class."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Lexicon:
    """Marker phrases by class, with neutral words that can replace them."""

    name: str
    version: int
    markers: dict[str, tuple[str, ...]]
    mathematical: tuple[str, ...]
    neutral: tuple[str, ...]
    affirmation: str = ""
    """What is forced in the place of a check, as it stands after the phrase that opens it: ", that is right."."""

    def __hash__(self) -> int:
        return hash(
            (self.name, self.version, *self.markers.values(), self.mathematical, self.neutral, self.affirmation)
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that is counted: those of the markers and the mathematical one."""
        return (*self.markers, MATHEMATICAL)

    @cached_property
    def class_of(self) -> dict[str, str]:
        """Marker phrase (canonical: lower case, plain apostrophes) to its class."""
        return {canonical(phrase): label for label, phrases in self.markers.items() for phrase in phrases}

    @cached_property
    def _markers(self) -> regex.Pattern[str]:
        return pattern(self.class_of)

    @cached_property
    def _mathematical(self) -> regex.Pattern[str]:
        return pattern(map(canonical, self.mathematical))

    @cached_property
    def _neutral(self) -> regex.Pattern[str]:
        return pattern(map(canonical, self.neutral))

    def marker_spans(self, text: str) -> list[Span]:
        """Every marker in `text`, in order, not overlapping, the longest phrase first; whole words and equal
        spellings as in `phrases`."""
        return [
            Span(m.start(), m.end(), label)
            for m in self._markers.finditer(text)
            if (label := self.class_of.get(canonical(m.group()))) is not None  # ignoring case also folds a long s
        ]

    def mathematical_spans(self, text: str) -> list[Span]:
        """Every word of the mathematical class, found as markers are."""
        return [Span(m.start(), m.end(), MATHEMATICAL) for m in self._mathematical.finditer(text)]

    def neutral_spans(self, text: str) -> list[Span]:
        """Every word that can replace a marker, found as markers are."""
        return [Span(m.start(), m.end(), NEUTRAL) for m in self._neutral.finditer(text)]

    def is_marker(self, piece: str) -> bool:
        """Whether a piece of text, stripped, is exactly a marker."""
        return canonical(piece) in self.class_of


def load_lexicon(name_or_path: str) -> Lexicon:
    """Read a bundled lexicon by name, or a JSON file of the same form.

    Raises:
        InterpError: the file is missing, is not of the form, or lists a phrase twice (in whatever spelling, over all
            classes) or an empty one.
    """
    path = BUNDLED / f"{name_or_path}.json"
    if not path.exists():
        path = Path(name_or_path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
        lexicon = Lexicon(
            name=raw["name"],
            version=int(raw["version"]),
            markers={label: tuple(map(canonical, _listed(phrases))) for label, phrases in raw["markers"].items()},
            mathematical=tuple(map(canonical, _listed(raw["mathematical"]))),
            neutral=tuple(_listed(raw["neutral"])),
            affirmation=str(raw.get("affirmation", "")),
        )
    except OSError as error:
        raise InterpError(f"lexicon {name_or_path!r}: {error.strerror}; give a bundled name or a JSON file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InterpError(f"lexicon {path}: {error!r}; see {BUNDLED / 'default.json'} for the form") from error
    _refuse_repeats(lexicon, path)
    return lexicon


def require_pivots(lexicon: Lexicon) -> None:
    """Refuse a lexicon without the four pivot classes, of whose sentences the rules would find none.

    Raises:
        InterpError: a class is missing; it is named.
    """
    missing = [label for label in PIVOTS if label not in lexicon.markers]
    if missing:
        raise InterpError(
            f"lexicon {lexicon.name!r}: no class {', '.join(missing)}; the rules for sentences look it up by that name"
        )


def _listed(phrases: Any) -> list[str]:
    if not isinstance(phrases, list):
        raise TypeError(f"{phrases!r} is not a list")
    return phrases


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys; of a class listed twice, JSON would silently keep the last."""
    keys = [key for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"the key {', '.join(repeated)} occurs twice")
    return dict(pairs)


def _refuse_repeats(lexicon: Lexicon, path: Path) -> None:
    groups = (*lexicon.markers.values(), lexicon.mathematical, map(canonical, lexicon.neutral))
    phrases = [phrase for group in groups for phrase in group]
    if not lexicon.class_of:
        raise InterpError(f"lexicon {path}: no marker; list at least one")
    if MATHEMATICAL in lexicon.markers:
        raise InterpError(f"lexicon {path}: markers hold a class {MATHEMATICAL!r}, which holds no markers; rename it")
    if not all(phrases):
        raise InterpError(f"lexicon {path}: an empty phrase; remove it")
    repeated = sorted({p for p in phrases if phrases.count(p) > 1})
    if repeated:
        raise InterpError(f"lexicon {path}: listed twice: {', '.join(repeated)}; keep each phrase in one class")
