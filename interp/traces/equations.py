"""Equations in running text: symbols, LaTeX, Markdown and words (`signs`), of two operands or more, with brackets.

An equation is an expression, an equals sign, and a bare number. In a chain each expression has the bare number right
after it as its result, so that a number with an operator behind it is no result: `3 + 4 = 7 + 1 = 8` holds `7 + 1 = 8`
alone. Whether the chain runs on (3 + 4 is 7, and 7 + 1 is 8) or derives (3 + 4 is 7 + 1), the text does not tell, and
a step that nobody wrote must not count as a wrong one (`2 * (3 + 4) = 2 * 7 = 14` does not say `2 * (3 + 4) = 2`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from interp.traces.formulas import Equation, read
from interp.traces.sides import Operands
from interp.traces.signs import OPEN

_CUT, _FIGURES = re.compile(r"\d[.,]$"), re.compile(r"[\d.,]+")


class Open(NamedTuple):
    """An equation whose result is being written, at characters [start, the text's end)."""

    operands: Operands
    written: str
    """The result as far as it is written, "" where only the equals sign is."""
    start: int
    equals: int


def equations(text: str) -> list[Equation]:
    """Every equation of a text, in order."""
    return list(_equations(text))


@lru_cache(maxsize=1 << 12)
def _equations(text: str) -> tuple[Equation, ...]:
    """Kept, since a text is read once for each outcome that its steps decide."""
    reader = read(text)
    reader.close()
    return tuple(reader.found)


def open_equation(text: str) -> tuple[Operands, str] | None:
    """(operands, written part of the result) where the text ends after an equals sign or inside the result, else None.
    A result that the text ends with counts as unfinished, since figures may follow."""
    found = unfinished(text)
    return None if found is None else (found.operands, found.written)


def unfinished(text: str) -> Open | None:
    """The equation that `open_equation` is about, with its place."""
    dot = text[-1:] if _CUT.search(text[-2:]) else ""  # a point after figures: the decimals may follow
    reader = read(text[: len(text) - len(dot)])
    if reader.left is None:
        return None
    side = [sign for sign in reader.side if sign.kind != OPEN]
    if len(side) > 1 or (side and (side[0].end != reader.last or reader.last != len(reader.text))):
        return None
    if side and side[0].text != "-" and not _FIGURES.fullmatch(reader.text, side[0].start + (side[0].text[:1] == "-")):
        return None
    start, operands, equals = reader.left
    return Open(operands, (reader.text[side[0].start :] + dot) if side else "", start, equals)


def recomputations(text: str) -> list[tuple[Equation, Equation]]:
    """Pairs of neighbouring equations with the same operands, whatever the notation and the words between them."""
    return recomputed(equations(text))


def recomputed(worked: Sequence[Equation]) -> list[tuple[Equation, Equation]]:
    """Pairs of neighbours with the same operands among the equations of a text."""
    return [(a, b) for a, b in itertools.pairwise(worked) if a.operands == b.operands]
