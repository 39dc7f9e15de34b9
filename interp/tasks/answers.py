"""Final answers: where a completion states one, and whether two are the same."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_ENDING = re.compile(r"####(?!\s*####)\s*(.+?)\s*$", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_IN_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_TAGGED = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_SAID = re.compile(r"\banswer(?: is:?|:)\s*(.+?)\.?$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:/\d+)?")
_PLAIN = re.compile(r"-?[\d,]*\.?\d*(?:/\d+)?")


def marked_answer(completion: str) -> str | None:
    """What stands after the last `####`, else in the last `\\boxed{}`."""
    for pattern in (_ENDING, _BOXED):
        if found := pattern.findall(completion):
            return found[-1].strip()
    return None


def tagged_answer(completion: str) -> str | None:
    """What stands in the last `<answer></answer>`; it may run over several lines."""
    found = _TAGGED.findall(completion)
    return found[-1] if found else None


def without_text(stated: str) -> str:
    """`Yes` for the `\\text{Yes}` that a box of mathematics makes of it."""
    return _IN_TEXT.sub(r"\1", stated)


def last_number(completion: str) -> str | None:
    """The last number of a completion, a fraction such as 1/2 being one."""
    numbers = _NUMBER.findall(completion)
    return numbers[-1] if numbers else None


def last_line(completion: str) -> str | None:
    """The last line that says anything, without the words "the answer is" before it and their full stop."""
    lines = completion.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    said = _SAID.search(last) if last else None
    return said.group(1) if said else last


def is_number(text: str) -> bool:
    """Whether a text is one plain number: `last_number` would read it whole."""
    return _NUMBER.fullmatch(text) is not None


@lru_cache(maxsize=65536)
def same_answer(gold: str, stated: str) -> bool:
    """Equal as text, as numbers, or as mathematics (math-verify)."""
    if gold.strip().lower() == stated.strip().lower():
        return True
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(stated):  # no exponents: 1e999999999 would be written out
        try:
            return Fraction(gold.replace(",", "")) == Fraction(stated.replace(",", ""))
        except (ValueError, ZeroDivisionError):
            return False
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)

    # No timeout: math-verify's uses signals, which only a main thread can take.
    left, right = (parse(f"${text}$", parsing_timeout=0) for text in (gold, stated))
    return bool(left) and bool(right) and verify(left, right, timeout_seconds=None)
