"""Whether a stated answer is the gold answer: as text, quantity, collection or mathematics.

The gold answer decides what is compared:

- *Text* (words, dates, `H2O`): the same words in the same order; case and the final full stop do not count.
- *Quantity*: exact values. `1,000`, `1e3`, `10^3` and `1000` are one number. A unit may be left out on either side;
  two units must be the same, `cm` not being `m`. A percentage is its value (`50%` = `0.5`), and, its sign being a unit
  left out, `50` too where it cannot be meant for a share (from 1 up: `0.5%` is not `0.5`). `0.5` is never `50`.
- *Rounding*: a decimal of six places or more may stand for an exact value that it rounds (`0.333333` = `1/3`).
- *Collection*: lists, tuples and intervals in order, with the same brackets; sets `\\{...\\}`, unions and `\\pm` in any
  order. A list without brackets may stand for a set; a set for a list without brackets if it keeps the order.
- *Mathematics*: expressions equal at fixed points, equations equal up to a factor; `x = 5` states 5.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from interp.tasks.expressions import PLACES, matched, mathematical, near, same_expression
from interp.tasks.latex import CLOSE_SET, OPEN_SET, plain
from interp.tasks.quantities import Quantity, number, places, quantity, without_thousands

MOST = 16
"""Elements of a collection without an order; a larger one is compared in order."""
DEEPEST = 6
"""Levels of collections within collections."""
_OPEN, _CLOSE = "([{" + OPEN_SET, ")]}" + CLOSE_SET
_SEPARATOR = re.compile(r"[,;] ?")
_EQUALS = re.compile(r"(?<![<>!=])=(?!=)")
_VARIABLE = re.compile(r"[a-zA-Z](?:_\{?\w+\}?|'|\([a-zA-Z]\))?")
_NAME = re.compile(r"\(?(?:\\(?!frac|sqrt)[a-zA-Z]+ ?)?[a-zA-Z][^+\-*/^<>\\]*")
_SPACED = re.compile(r"-?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?")
_MEMBER = re.compile(r"^[a-zA-Z]\\in ?")


class Collection(NamedTuple):
    """An answer of several parts."""

    brackets: str
    """What stands around them: `()`, `[)`, ...; empty for a bare list, `u` for a union, `±` for both signs."""
    items: list[str]

    @property
    def ordered(self) -> bool:
        return self.brackets not in (OPEN_SET + CLOSE_SET, "u", "±")


def same(gold: str, stated: str) -> bool:
    """Whether two answers are the same; see the module's docstring for what counts."""
    return _same(plain(gold), plain(stated), DEEPEST)


def _same(gold: str, stated: str, depth: int) -> bool:
    gold, stated = _unwrapped(gold), _unwrapped(stated)
    if len(_items(gold)) == 1 == len(_items(stated)):
        gold, stated = map(_unwrapped, _sides(gold, stated))
    if _folded(gold) == _folded(stated):
        return bool(gold)
    if not depth:
        return False
    gold, stated = _joined(gold, stated), _joined(stated, gold)
    if (ours := collection(gold)) is not None:
        theirs = _reading(stated, len(ours.items))
        return len(theirs.items) == len(ours.items) and _same_items(ours, theirs, depth)
    return collection(stated) is None and _same_value(gold, stated, depth)


def _folded(text: str) -> str:
    """Letters' case counts in mathematics only, and spaces between words and numbers only."""
    squeezed = text.replace(" ", "")
    if mathematical(squeezed) and not re.search(r"\d \d", text):
        return squeezed
    return text.casefold()


def _unwrapped(text: str) -> str:
    """`B` for `(B)`, `[0,1)` for `x \\in [0,1)`."""
    text = _MEMBER.sub("", text)
    while text.startswith(("(", "{")) and _closing(text) == len(text) - 1 and len(split(text[1:-1])) == 1:
        text = text[1:-1].strip()
    return text


def _joined(text: str, other: str) -> str:
    """`1000` for `1 000` where the other answer is one number, or a group begins with a zero, as no element of a list
    does; else that is a list."""
    spaced = _SPACED.fullmatch(text) and (number(other) is not None or re.search(r" 0\d\d", text))
    return text.replace(" ", "") if spaced else text


def _closing(text: str) -> int | None:
    """Where the bracket is closed that a text begins with; brackets of two kinds may enclose an interval."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return i
    return None


def split(text: str, separator: re.Pattern[str] = _SEPARATOR) -> list[str]:
    """The parts of a text between separators outside all brackets."""
    parts, start, position = [], 0, 0
    depths = _depths(text)
    while found := separator.search(text, position):
        position = found.end()
        if depths[found.start()] == 0:
            parts.append(text[start : found.start()])
            start = position
    return [part.strip() for part in [*parts, text[start:]]]


def _depths(text: str) -> list[int]:
    depths, depth = [], 0
    for character in text:
        depth -= character in _CLOSE
        depths.append(depth)
        depth += character in _OPEN
    return depths


def collection(text: str) -> Collection | None:
    """The parts of an answer, None where it has only one; a comma between three digits groups them."""
    if number(text) is not None:
        return None
    if len(parts := split(text, re.compile(r"\\cup ?"))) > 1:
        return Collection("u", parts)
    if text.startswith(tuple(_OPEN)) and _closing(text) == len(text) - 1:
        return _bracketed(text[0] + text[-1], text[1:-1].strip())
    if len(parts := _items(text)) > 1:
        return Collection("", parts)
    if len(words := text.split(" ")) > 1 and all(number(word) is not None for word in words):
        return Collection("", words)
    if text.count(r"\pm") == 1:
        return Collection("±", [text.replace(r"\pm", sign) for sign in "+-"])
    return None


def _items(text: str) -> list[str]:
    """The elements of a list without brackets."""
    return split(without_thousands(text))


def _bracketed(brackets: str, inside: str) -> Collection | None:
    items = (_items(inside) if re.search(r"[,;] |;", inside) else split(inside)) if inside else []
    if brackets == "{}":
        brackets = OPEN_SET + CLOSE_SET
    if brackets == "()" and len(items) == 1:
        return None
    return Collection(brackets, items)


def _reading(stated: str, n: int) -> Collection:
    """What a stated answer means where `n` parts are wanted: `1,100` may be two, and any answer one."""
    if found := collection(stated):
        return found
    parts = stated.split(",")
    return Collection("", parts if len(parts) == n and number(stated) is not None else [stated])


def _same_items(gold: Collection, stated: Collection, depth: int) -> bool:
    bare_or_set = {"", OPEN_SET + CLOSE_SET, "±"}
    if gold.brackets != stated.brackets and not {gold.brackets, stated.brackets} <= bare_or_set:
        return False
    ordered = gold.ordered and stated.brackets != "±"
    if ordered or len(gold.items) > MOST:
        return all(_same(a, b, depth - 1) for a, b in zip(gold.items, stated.items, strict=True))
    return matched(gold.items, stated.items, lambda a, b: _same(a, b, depth - 1))


def _sides(gold: str, stated: str) -> tuple[str, str]:
    """Both answers without the names that they give to their values: `5` for `x = 5` and for `2 + 3 = 5`.

    A gold equation stays one, unless it only names a value.
    """
    ours, theirs = (split(text, _EQUALS) for text in (gold, stated))
    if len(ours) == 1 and (_NAME.fullmatch(theirs[0]) or all(_same_amount(theirs[-1], side) for side in theirs[:-1])):
        return gold, theirs[-1]
    if _VARIABLE.fullmatch(ours[0]) and theirs[0] == ours[0]:
        return ours[-1], theirs[-1]
    return (ours[-1] if _VARIABLE.fullmatch(ours[0]) and len(theirs) == 1 else gold), stated


def _same_value(gold: str, stated: str, depth: int) -> bool:
    ours, theirs = quantity(gold), quantity(stated)
    units = {ours.unit, theirs.unit}
    if units == {""}:
        return _same_amount(gold, stated)
    if units == {"", "%"}:
        return _same_share(ours, theirs)
    return len(units - {""}) == 1 and _same(ours.amount, theirs.amount, depth - 1)


def _same_share(one: Quantity, other: Quantity) -> bool:
    """A percentage, and a number that may be its value or its percents."""
    percentage, bare = (one, other) if one.unit else (other, one)
    percents, value = number(percentage.amount), number(bare.amount)
    if percents is None or value is None:
        return _same_amount(percentage.amount, bare.amount)
    return value == percents / 100 or (value == percents and abs(percents) >= 1)


def _same_amount(gold: str, stated: str) -> bool:
    ours, theirs = number(gold), number(stated)
    if ours is not None and theirs is not None:
        return ours == theirs or _rounded(gold, stated) or _rounded(stated, gold)
    if not mathematical(gold) or not mathematical(stated):
        return False
    return same_expression(gold, stated) or _rounded(gold, stated) or _rounded(stated, gold)


def _rounded(exact: str, decimal: str) -> bool:
    """Whether a decimal of enough places is an exact value, rounded; another decimal is not exact."""
    given = places(decimal)
    if given is None or given < PLACES or places(exact) is not None:
        return False
    return near(exact, decimal.replace(",", ""), given)
