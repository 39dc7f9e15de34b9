"""Equality of mathematical expressions, read by math-verify and compared at fixed points, in bounded work.

math-verify's own comparison simplifies symbolically, needs a time limit for it (signals, which only a main thread can
take), and has words for products of letters and lists for sets. Only its parser is used here.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

LONGEST = 200
"""Characters; a longer text is not read as mathematics."""
DEEPEST = 8
"""Levels of brackets; the parser's time grows with them."""
BARS = 8
"""Bars of absolute values, whose pairs the parser has to guess."""
PLACES = 6
"""Decimal places from which on a decimal number may stand for an exact value that it rounds."""
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\}|\\[a-zA-Z]+")
_CHARACTERS = re.compile(r"[A-Za-z0-9_+\-*/^=<>|!(){}\[\].,;\\&' ]*")
_NO_SUM = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}")
"""Dates, scores and telephone numbers."""
_JUXTAPOSED = re.compile(r"[a-zA-Z] ?\d|\d [a-zA-Z\d]|\d(?:st|nd|rd|th)\b|\.\d*\.")
"""What products of letters and numbers do not look like: `H2O`, `A 1`, `1 x 2`, `2nd`, `1.2.3`."""
_NO_VALUE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError)
"""What sympy and mpmath raise on expressions that have no number."""
_SYMBOL = re.compile(
    r"(?P<capital>\\(?:Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)(?![a-zA-Z]))|\\(?:begin|end)\{\w*\}|\\[a-zA-Z]+"
    r"|(?P<name>[a-zA-Z](?:_\{\w+\}'*|'+)|[A-Z])"
)
_POINTS = 4
_DIGITS = 60
_ACCURACY = 1e-25
"""Relative difference of equal values; squared, what counts as no difference from 0."""
_LARGE_EXPONENT = 10_000
_LARGEST = 1000
"""Power of ten above which a value is not computed."""


def mathematical(text: str) -> bool:
    """Whether a canonical text looks like mathematics: numbers, operators, commands and single letters, no words."""
    letters = _COMMAND.sub(" ", text)
    if not _CHARACTERS.fullmatch(text) or _NO_SUM.fullmatch(text) or _JUXTAPOSED.search(letters):
        return False
    longest = 2 if "\\" in text or "{" in text else 1
    if not all(len(run) <= longest or _variables(run) for run in re.findall("[a-zA-Z]+", letters)):
        return False
    return re.search(r"[\d+\-*/^=<>|!\\]", text) is not None


def _variables(run: str) -> bool:
    """Whether a run of letters is a product of variables rather than a word: `abc`, `xy`, `pq`."""
    return len(run) <= 4 and (not set(run.lower()) & set("aeiou") or set(run.lower()) <= set("abcxyz"))


def readable(text: str) -> bool:
    """Whether the parser may be given a text: short, not deep, and without numbers that it would write out."""
    depth = deepest = 0
    for character in text[: LONGEST + 1]:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    evaluated = r"\d{31}|(?:binom|choose|_|mod|gcd|lcm|floor|ceil|det|matrix).*\d{5}|\d{5}.*(?:choose|mod|_)"
    small = len(text) <= LONGEST and text.count("|") <= BARS and deepest <= DEEPEST and depth == 0
    return small and re.search(evaluated, text) is None


def _lower(found: re.Match[str]) -> str:
    """A name of its own for every symbol: the parser takes `R` for `r`, and `x'` for `x`."""
    name = found["name"] or found["capital"]
    if name is None:
        return found.group()
    letter = name.lstrip("\\")[0].lower()
    return f"{letter}_{{{''.join(str(ord(character)) for character in found.group())}}}"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """sympy's expression of a text, None where it has none."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    if not readable(text):
        return None
    # Units are not left to the parser: it would take the h of 5h for one.
    normal = NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, units=False, boxed="none")
    text = _SYMBOL.sub(_lower, re.sub(r"(\d)\(", r"\1\\cdot(", text))  # it reads 2(3) as 2 + 3
    # No time limit: it uses signals, which only a main thread can take.
    found = parse(f"${text}$", [LatexExtractionConfig(normalization_config=normal)], "no_fallback", parsing_timeout=0)
    return found[0] if found else None


def same_expression(gold: str, stated: str) -> bool:
    """Whether two canonical texts are equal expressions, equations, inequalities or matrices."""
    left, right = _parsed(gold), _parsed(stated)
    if left is None or right is None:
        return False
    try:
        return _same(left, right)
    except _NO_VALUE:
        return False


def near(exact: str, decimal: str, places: int) -> bool:
    """Whether a decimal number of so many places is the value of a canonical text, rounded."""
    import mpmath

    expression = _parsed(exact)
    if places > _DIGITS // 2 or expression is None:
        return False
    try:
        with mpmath.workdps(_DIGITS):
            return bool(abs(_value(expression, {}) - mpmath.mpf(decimal)) <= mpmath.mpf(10) ** -places / 2)
    except _NO_VALUE:
        return False


def _same(left: Any, right: Any) -> bool:
    from sympy import And, FiniteSet, MatrixBase, Tuple
    from sympy.core.relational import Relational

    for collection, ordered in ((MatrixBase, True), (Tuple, True), (FiniteSet, False), (And, False)):
        if isinstance(left, collection) or isinstance(right, collection):
            return isinstance(left, collection) and isinstance(right, collection) and _all_same(left, right, ordered)
    if isinstance(left, Relational) or isinstance(right, Relational):
        return isinstance(left, Relational) and isinstance(right, Relational) and _same_relation(left, right)
    return _zero(left, right)


def _all_same(left: Any, right: Any, ordered: bool) -> bool:
    if getattr(left, "shape", None) != getattr(right, "shape", None):
        return False
    ours, theirs = ([*(x.flat() if hasattr(x, "flat") else x.args)] for x in (left, right))
    if ordered:
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return matched(ours, theirs, _same)


def matched(ours: list[Any], theirs: list[Any], equal: Any) -> bool:
    """Whether two lists hold the same things in whatever order."""
    rest = list(theirs)
    for one in ours:
        found = next((i for i, other in enumerate(rest) if equal(one, other)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


def _same_relation(left: Any, right: Any) -> bool:
    """Equal up to a factor: positive in an inequality, which is read as `difference < 0` or `<= 0`."""
    ours, theirs = (_difference(x) for x in (left, right))
    if ours[0] != theirs[0]:
        return False
    ratios = [a / b for a, b in _values(ours[1], theirs[1]) if b]
    if len(ratios) < 2 or any(abs(r - ratios[0]) > _ACCURACY * abs(r) for r in ratios) or not ratios[0]:
        return False
    return ours[0] in ("==", "!=") or ratios[0].real > 0


def _difference(relation: Any) -> tuple[str, Any]:
    operator, difference = relation.rel_op, relation.lhs - relation.rhs
    return (operator.replace(">", "<"), -difference) if ">" in operator else (operator, difference)


def _zero(left: Any, right: Any) -> bool:
    if left == right:
        return True
    pairs = _values(left, right)
    return bool(pairs) and all(
        abs(a - b) <= _ACCURACY * (max(abs(a), abs(b)) if a and b else _ACCURACY) for a, b in pairs
    )


def _values(left: Any, right: Any) -> list[tuple[Any, Any]]:
    """Both expressions' values at fixed points, to sixty digits; points where one has none are left out."""
    import mpmath

    names = sorted({str(s) for s in left.free_symbols | right.free_symbols})
    found = []
    with mpmath.workdps(_DIGITS):
        for point in range(_POINTS if names else 1):
            at = {name: _coordinate(point, i) for i, name in enumerate(names)}
            try:
                found.append((_value(left, at), _value(right, at)))
            except ArithmeticError:
                continue
    return found


def _coordinate(point: int, variable: int) -> Any:
    """Positive and negative numbers that no ordinary identity singles out."""
    import mpmath

    return (-1) ** (point + variable * (point // 2)) * mpmath.sqrt(2 + 3 * point + 7 * variable) / (1 + point)


def _value(expression: Any, at: dict[str, Any]) -> Any:
    """A number, by the expression's own tree, so that nothing is multiplied out.

    Raises:
        ArithmeticError: it has no finite value here, or one too large.
    """
    import mpmath
    from sympy import Add, Mul, Pow, Symbol
    from sympy.core.numbers import ImaginaryUnit

    if isinstance(expression, Symbol):
        return at[str(expression)]
    if isinstance(expression, ImaginaryUnit):
        return mpmath.mpc(0, 1)
    parts = [_value(part, at) for part in expression.args]
    if isinstance(expression, (Add, Mul)):
        value = mpmath.fsum(parts) if isinstance(expression, Add) else mpmath.fprod(parts)
    elif isinstance(expression, Pow):
        value = _power(*parts)
    else:
        value = _function(expression, parts)
    if not mpmath.isfinite(value) or (value and mpmath.log10(abs(value)) > _LARGEST):
        raise ArithmeticError("not a finite number")
    return value


def _power(base: Any, exponent: Any) -> Any:
    import mpmath

    if abs(exponent) > _LARGE_EXPONENT or (not base and exponent.real < 0):
        raise ArithmeticError("no finite power")
    return mpmath.power(base, exponent)


def _function(expression: Any, parts: list[Any]) -> Any:
    """A number, a constant or a function, by sympy's own numerical evaluation."""
    import mpmath
    from sympy import sympify

    applied = expression.func(*map(sympify, parts)) if parts else expression
    return mpmath.mpmathify(applied.evalf(_DIGITS))
