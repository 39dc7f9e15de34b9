"""Text of models made visible: tokens one by one, and traces with their marked spans. Escaping is the templates'."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRACE_CHARACTERS = 4000
"""A trace is shown up to here."""
SHADES = 20
"""Steps of the activation's shading; the title of each token holds the exact value."""
_NAMED = {"\n": "↵", "\t": "⇥", "\r": "␍", " ": "·"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def _character(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) in _INVISIBLE:
        return f"⟨U+{ord(character):04X}⟩"
    return character


def visible_token(token: str | None) -> str:
    """A token with every space, line end, control and direction mark as a sign; the empty token is `∅`."""
    if not token:
        return "∅"
    shown = "".join(map(_character, token))
    return f"◌{shown}" if unicodedata.category(token[0]).startswith("M") else shown


def visible_prose(text: str) -> str:
    """Running text: spaces and line ends stay, a line end gets its sign, everything else invisible is named."""
    return "".join("↵\n" if c == "\n" else c if c == " " else _character(c) for c in text)


def figure_text(text: str | None, longest: int = 44) -> str:
    """A study's own words inside a figure: cut to a width, and with no `$`, which would be read as mathematics."""
    shown = visible_prose(text or "").replace("\n", " ")
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return shown.replace("$", r"\$")


def figure_lines(text: str | None, width: int = 46, most: int = 3) -> str:
    """The same over several lines of a figure, at most `most`."""
    shown = visible_prose(text or "").replace("\n", " ")
    lines = textwrap.wrap(shown, width, max_lines=most, placeholder=" …") or [""]
    return "\n".join(figure_text(line, width) for line in lines)


@dataclass(frozen=True)
class Token:
    """One token of a context. `shade` is 0 (silent) to `SHADES` (the latent's strongest shown activation)."""

    text: str
    value: str
    shade: int
    peak: bool


def context(tokens: Sequence[str], activations: Sequence[float | None], peak: int, strongest: float) -> list[Token]:
    """Tokens of a context, shaded against `strongest`, the same for all models so that their shades compare."""
    values = [a or 0.0 for a in activations] + [0.0] * (len(tokens) - len(activations))
    return [
        Token(visible_token(token), f"{value:.3g}", _shade(value, strongest), at == peak)
        for at, (token, value) in enumerate(zip(tokens, values, strict=False))
    ]


def _shade(value: float, strongest: float) -> int:
    if not value > 0 or not strongest > 0:
        return 0
    return max(1, min(SHADES, round(SHADES * value / strongest)))


@dataclass(frozen=True)
class Piece:
    """A stretch of a trace under the same labels."""

    text: str
    marker: str
    behaviour: str


def pieces(text: str, markers: Iterable[Mapping[str, Any]], behaviours: Iterable[Mapping[str, Any]]) -> list[Piece]:
    """Cut `text` at every span's edge. Offsets beyond the text are clipped; of overlapping spans the last one wins."""
    shown = text[:TRACE_CHARACTERS]
    over_marker, over_behaviour = _cover(len(shown), markers), _cover(len(shown), behaviours)
    found: list[Piece] = []
    start = 0
    for at in range(1, len(shown) + 1):
        inside = at < len(shown)
        if inside and over_marker[at] == over_marker[start] and over_behaviour[at] == over_behaviour[start]:
            continue
        found.append(Piece(visible_prose(shown[start:at]), over_marker[start], over_behaviour[start]))
        start = at
    return found


def _cover(length: int, spans: Iterable[Mapping[str, Any]]) -> list[str]:
    labels = [""] * length
    for span in spans:
        start, end = max(0, span["start"] or 0), min(length, span["end"] or 0)
        labels[start:end] = [span["label"] or "unnamed"] * max(0, end - start)
    return labels
