"""Numbers and their units, read off an answer's canonical text (`latex.plain`)."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

DIGITS = 400
"""Characters; a longer text is no number."""
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)")
_PLAIN = re.compile(rf"({_DECIMAL})(?:[eE]([+-]?\d{{1,3}}))?")
_POWER_OF_TEN = re.compile(rf"(?:({_DECIMAL})(?:\\times|\\cdot|\*| ?x) ?)?10\^\{{([+-]?\d{{1,3}})\}}")
_RECURRING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")
_STACKED = re.compile(rf"(\d+)?\\frac\{{(-?{_DECIMAL})\}}\{{(-?{_DECIMAL})\}}")
_INLINE = re.compile(rf"(?:(\d+) )?({_DECIMAL})/(-?{_DECIMAL})")

_BORDER = re.compile(r"(?<=[\d)}\]!a-zA-Z])(?: |(?<=[\d)}\]!])(?=[A-Za-z$]))")
_WORD = r"[A-Za-z]+(?:\^\{-?\d\})?"
_UNIT = re.compile(rf"{_WORD}(?:[ /*-]{_WORD}){{0,3}}|\$")
_PROSE = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2}")
_BASE = re.compile(r"(\d+)_\{?(\d+)\}?")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_UNIT = _words(
    "and or to but not is are was the a an if then than more less times plus minus of by with from over under only"
    " about at least most maybe no yes each"
)
_SINGLE = _words("m g s h L l K J N W V A C F")
_ATTACHED = _words("mm cm dm km mg kg ml mL ft lb lbs oz mi hr hrs min sec mph am pm AM PM Hz kHz MB GB USD")
_ALIASES = {
    alias: unit
    for unit, aliases in {
        "%": "percent pct",
        "$": "dollar dollars usd",
        "€": "euro euros eur",
        "£": "gbp",
        "degree": "deg",
        "cent": "¢",
        "mm": "millimeter millimetre",
        "cm": "centimeter centimetre",
        "m": "meter metre",
        "km": "kilometer kilometre",
        "g": "gram",
        "mg": "milligram",
        "kg": "kilogram",
        "l": "liter litre",
        "ml": "milliliter millilitre",
        "s": "second sec",
        "min": "minute",
        "h": "hour hr",
        "ft": "foot feet",
        "in": "inch inches",
        "yd": "yard",
        "mi": "mile",
        "lb": "pound",
        "oz": "ounce",
        "person": "people",
    }.items()
    for alias in aliases.split()
}


class Quantity(NamedTuple):
    """An amount and its unit."""

    amount: str
    unit: str
    """Canonical; empty where none is stated."""


def number(text: str) -> Fraction | None:
    """The exact value of a number: decimal, scientific (exponents up to 999), fraction, mixed or recurring."""
    if len(text) > DIGITS:
        return None
    sign = -1 if text.startswith("-") else 1
    text = without_thousands(text.removeprefix("-") if sign < 0 else text.removeprefix("+")).strip()
    value = _unsigned(text)
    return None if value is None else sign * value


def without_thousands(text: str) -> str:
    """`1234, 5` for `1,234, 5`: commas that group three digits, and no others."""
    return _THOUSANDS.sub(lambda found: found.group().replace(",", ""), text)


def _unsigned(text: str) -> Fraction | None:
    if found := _PLAIN.fullmatch(text) or _POWER_OF_TEN.fullmatch(text):
        return Fraction(found[1] or 1) * Fraction(10) ** int(found[2] or 0)
    if found := _RECURRING.fullmatch(text):
        whole, fixed, cycle = found.groups()
        nines = 10 ** len(fixed) * (10 ** len(cycle) - 1)
        return Fraction(f"{whole or 0}.{fixed or 0}") + Fraction(int(cycle), nines)
    if (found := _STACKED.fullmatch(text) or _INLINE.fullmatch(text)) and Fraction(found[3]):
        return int(found[1] or 0) + Fraction(found[2]) / Fraction(found[3])
    return None


def places(text: str) -> int | None:
    """Decimal places of a decimal number, None for any other text."""
    found = re.fullmatch(r"-?\d*\.(\d+)", without_thousands(text))
    return len(found[1]) if found else None


def quantity(text: str) -> Quantity:
    """The amount and the unit of an answer; a text without a unit is all amount."""
    if found := re.fullmatch(r"(-?)([$€£])(.+)", text):
        return Quantity(found[1] + found[3], found[2])
    if found := re.fullmatch(r"(.+)([%€£])", text):
        return Quantity(found[1], found[2])
    if found := _BASE.fullmatch(text):
        return Quantity(found[1], f"base {found[2]}")
    for border in _BORDER.finditer(text):
        amount, unit = text[: border.start()], text[border.end() :]
        if _is_amount(amount) and _is_unit(unit, attached=border.group() == ""):
            return Quantity(amount, unit_name(unit))
    return Quantity(text, "")


def _is_amount(text: str) -> bool:
    """Whether a text may be a number or a formula: `New` of `New York` is none."""
    return re.search(r"[\d\\]", text) is not None and _PROSE.search(text) is None


def _is_unit(text: str, attached: bool) -> bool:
    words = re.findall(r"[A-Za-z]+", text)
    if text == "$" or not _UNIT.fullmatch(text):
        return text == "$"
    if attached and words[0] not in _ATTACHED:
        return False
    return all((len(word) > 1 or word in _SINGLE) and word.lower() not in _NO_UNIT for word in words)


def unit_name(unit: str) -> str:
    """One name for a unit's spellings: `cm^{2}` for `square centimeters` and `sq cm`."""
    unit = re.sub(r"\b(?:square|sq) ([A-Za-z]+)", r"\1^{2}", unit)
    unit = re.sub(r"\bcubic ([A-Za-z]+)", r"\1^{3}", unit).replace(" per ", "/")
    unit = re.sub(r"\bmph\b", "mi/h", unit)
    return re.sub(r"[A-Za-z]+", lambda found: _singular(found.group()), unit)


def _singular(word: str) -> str:
    lower = word.lower()
    for form in (lower, lower.removesuffix("s")):
        if form in _ALIASES:
            return _ALIASES[form]
    return lower if len(word) <= 2 else lower.removesuffix("s")
