"""The signs of arithmetic in running text: numbers, operators, brackets and equals signs, written as symbols, in LaTeX,
in Markdown or as words. Formatting (`$`, `\\(`, `**`, `\\boxed{`, `\\left`) is no sign and parts none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

NUMBER, UNKNOWN, OPERATOR, OPEN, CLOSE = "number", "unknown", "operator", "open", "close"
EQUALS, BREAK = "equals", "break"
"""Kinds of sign. An unknown is an operand whose value the text does not say: a variable, `\\sqrt{2}`, `20%`. A break
is everything that ends a formula."""
POWER = "^"
NORMAL = {"×": "*", "·": "*", "⋅": "*", "∗": "*", "\\*": "*", "\\times": "*", "\\cdot": "*", "\\ast": "*", "times": "*"}
NORMAL |= {"x": "*", "multiplied": "*", "÷": "/", "\\div": "/", "divided": "/", "−": "-", "plus": "+", "minus": "-"}
NORMAL |= {"**": POWER}
"""Spelling of an operator (the first word of several) to its one form."""

_FIGURE = r"\d+(?:\.\d+)?"
_GROUPS = r"\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?:\.\d+)?(?![\d,])"
_WHOLE = re.compile(rf"{_GROUPS}|{_FIGURE}")
_COMMA = re.compile(r"\{,\}|\\,|,")
_SIGN = re.compile(
    rf"""
    (?P<number>\.?\d+(?:(?:[.,]|\{{,\}}|\\,)\d+)*\w*(?:\\?%)?)
    |(?P<fraction>\\[dt]?frac\s*\{{\s*(?P<over>{_FIGURE})\s*\}}\s*\{{\s*(?P<under>{_FIGURE})\s*\}})
    |(?P<operator>(?<=[\d)])\*\*(?=[\d(])|(?<=[\d)]\ )\*\*(?=\ [\d(])|\^
        |(?!\*\*)[-+*/×÷−·⋅∗]|\\\*|\\(?:times|cdot|div|ast)(?![a-z])
        |(?:plus|minus|times|multiplied\s+by|divided\s+by)(?!\w)|x(?=\s+\d))
    |(?P<equals>=|(?:is\s+equal\s+to|equals?|is|makes?|gives?)(?![\w'’]))
    |(?P<line>\n\s*)
    |(?P<skip>[^\S\n]+|\*\*+|[$€£`&{{}}]|\\[()\[\],;:!$\ \\]
        |\\(?:left|right|displaystyle|q?quad)(?![a-z])|\\(?:boxed|fbox|math(?:bf|rm)|text(?:bf|rm))\s*\{{)
    |(?P<open>\()
    |(?P<close>\))
    |(?P<unknown>\\[a-z]+(?:\{{[^{{}}\n]*\}})*|(?:[b-hj-z]|[ai](?=\s*[-+*/^×÷=]))(?![\w'’]))
    |(?P<word>[^\W\d](?:\w|['’](?=\w))*)
    |(?P<other>.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_BREAKS = ("line", "word", "other")


class Sign(NamedTuple):
    """One sign at characters [start, end)."""

    kind: str
    text: str
    """Normal form: digits without separators, one operator for each operation; of an unknown, the figures it begins
    with ("15" of "15km"); of `=`, itself, of words of equality, "is"."""
    start: int
    end: int
    bullet: bool = False
    """Whether it is the first of its line."""
    figures: int = 0
    """Of a number, or an unknown that begins with one: one past its last figure."""


def signs(text: str) -> Iterator[Sign]:
    """Every sign of a text, in order, in time proportional to the length. An empty line is a break."""
    bullet, broken = True, False
    for match in _SIGN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "skip":
            continue
        (start, end), found = match.span(), match.group()
        if kind == "line" and found.count("\n") < 2:
            bullet = True
        elif kind in _BREAKS and not (kind == "word" and any(map(str.isdigit, found))):
            if not broken:  # of several breaks one is enough
                yield Sign(BREAK, "", start, end)
            bullet, broken = kind == "line", True
        else:
            yield from _fraction(match, bullet) if kind == "fraction" else [_sign(kind, found, start, end, bullet)]
            bullet = broken = False


def _sign(kind: str, found: str, start: int, end: int, bullet: bool) -> Sign:
    if kind == "number":
        return _number(found, start, end, bullet)
    if kind == "operator":
        spelled = found.split()[0].lower()
        return Sign(OPERATOR, NORMAL.get(spelled, spelled), start, end, bullet)
    if kind == "equals":
        return Sign(EQUALS, "=" if found == "=" else "is", start, end, bullet)
    if kind in (OPEN, CLOSE):
        return Sign(kind, found, start, end, bullet)
    return Sign(UNKNOWN, "", start, end, bullet)


def _number(found: str, start: int, end: int, bullet: bool) -> Sign:
    """A number, or an unknown such as `5x`, `20%`, `3.4.1` and `3,4`, of which the leading figures are kept."""
    match = _WHOLE.match(found)
    if match is None:  # .5
        return Sign(UNKNOWN, "", start, end, bullet)
    kind = NUMBER if match.end() == len(found) else UNKNOWN
    return Sign(kind, _COMMA.sub("", match.group()), start, end, bullet, start + match.end())


def _fraction(match: re.Match[str], bullet: bool) -> Iterator[Sign]:
    r"""`\frac{a}{b}` as `(a / b)`."""
    start, end = match.span("fraction")
    yield Sign(OPEN, "(", start, match.start("over"), bullet)
    yield Sign(NUMBER, match["over"], *match.span("over"), figures=match.end("over"))
    yield Sign(OPERATOR, "/", match.end("over"), match.start("under"))
    yield Sign(NUMBER, match["under"], *match.span("under"), figures=match.end("under"))
    yield Sign(CLOSE, ")", match.end("under"), end)
