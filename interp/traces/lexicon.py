"""Lexicons of style markers: versioned data files, and the matching of their phrases in text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interp.errors import InterpError

BUNDLED = Path(__file__).parent / "lexicons"


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text, with the class of what stands there."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Lexicon:
    """Marker phrases by class, with neutral words that can stand in their place."""

    name: str
    version: int
    markers: dict[str, tuple[str, ...]]
    mathematical: tuple[str, ...]
    neutral: tuple[str, ...]

    @cached_property
    def class_of(self) -> dict[str, str]:
        """Marker phrase (lower case) to its class."""
        return {phrase: label for label, phrases in self.markers.items() for phrase in phrases}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.class_of, key=len, reverse=True)
        # Lookarounds rather than \b, so that "await" and "double-check" are not read as "wait" and "check".
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])", re.IGNORECASE)

    def marker_spans(self, text: str) -> list[Span]:
        """Every marker in `text`, in order, not overlapping, the longest phrase first."""
        return [
            Span(m.start(), m.end(), self.class_of[m.group().lower()])
            for m in self._pattern.finditer(text)
            if m.group().lower() in self.class_of  # IGNORECASE also folds a long s and a dotless i
        ]

    def is_marker(self, piece: str) -> bool:
        """Whether a piece of text, stripped, is exactly a marker."""
        return piece.strip().lower() in self.class_of


def load_lexicon(name_or_path: str) -> Lexicon:
    """Read a bundled lexicon by name, or a JSON file of the same form.

    Raises:
        InterpError: the file is missing, is not of the form, or lists a phrase twice or an empty one.
    """
    path = BUNDLED / f"{name_or_path}.json"
    if not path.exists():
        path = Path(name_or_path)
    try:
        raw = json.loads(path.read_text())
        lexicon = Lexicon(
            name=raw["name"],
            version=int(raw["version"]),
            markers={label: tuple(p.lower() for p in _listed(phrases)) for label, phrases in raw["markers"].items()},
            mathematical=tuple(_listed(raw["mathematical"])),
            neutral=tuple(_listed(raw["neutral"])),
        )
    except OSError as error:
        raise InterpError(f"lexicon {name_or_path!r}: {error.strerror}; give a bundled name or a JSON file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InterpError(f"lexicon {path}: {error!r}; see {BUNDLED / 'default.json'} for the form") from error
    _refuse_repeats(lexicon, path)
    return lexicon


def _listed(phrases: Any) -> list[str]:
    if not isinstance(phrases, list):
        raise TypeError(f"{phrases!r} is not a list")
    return phrases


def _refuse_repeats(lexicon: Lexicon, path: Path) -> None:
    phrases = [p for group in lexicon.markers.values() for p in group] + [w.lower() for w in lexicon.neutral]
    if not lexicon.class_of:
        raise InterpError(f"lexicon {path}: no marker; list at least one")
    if not all(p.strip() for p in phrases):
        raise InterpError(f"lexicon {path}: an empty phrase; remove it")
    repeated = sorted({p for p in phrases if phrases.count(p) > 1})
    if repeated:
        raise InterpError(f"lexicon {path}: listed twice: {', '.join(repeated)}; keep each phrase in one class")
