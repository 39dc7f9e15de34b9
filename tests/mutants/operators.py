"""The mutation operators: for a node of the syntax tree, what it may be changed to.

An operator is a function of (source, node) that yields changes; a new one is a function here and a line in `OPERATORS`.
Changes are of the text, so that comments and layout stay and a mutant can be shown as a difference of lines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mutants.source import Source


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `end` of a file, replaced."""

    kind: str
    start: int
    end: int
    by: str


Operator = Callable[[Source, ast.AST], Iterator[Change]]

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is not": "is", "not in": "in"}
COMPARISONS |= {"is": "is not", "in": "not in"}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "//", "**": "*", "|": "&", "&": "|"}
NAMES = {
    "min": "max",
    "minimum": "maximum",
    "amin": "amax",
    "argmin": "argmax",
    "any": "all",
    "sum": "mean",
    "std": "var",
    "floor": "ceil",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "softmax": "log_softmax",
    "lower": "upper",
    "startswith": "endswith",
    "partition": "rpartition",
    "find": "rfind",
    "append": "extend",
}
NAMES |= {after: before for before, after in NAMES.items()}
UNSWAPPED = {"isinstance", "min", "max", "minimum", "maximum", "allclose", "isclose", "equal", "array_equal"}
"""Calls whose arguments are not swapped: the result would be the same, or no program at all."""
_SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is"}
_SYMBOLS |= {ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_SYMBOLS |= {ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.BitOr: "|", ast.BitAnd: "&"}


def _between(source: Source, kind: str, left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[Change]:
    """Replace the operator that stands between two nodes."""
    start, end = source.span(left)[1], source.span(right)[0]
    gap = source.slice(start, end)
    pattern = r"\s+".join(rf"\b{word}\b" for word in old.split()) if old[0].isalpha() else re.escape(old)
    if re.search(pattern, gap):
        yield Change(kind, start, end, re.sub(pattern, new, gap, count=1))


def _whole(source: Source, kind: str, node: ast.AST, by: str) -> Change:
    return Change(kind, *source.span(node), by)


def comparison(source: Source, node: ast.AST) -> Iterator[Change]:
    """`<` for `<=`, `==` for `!=`, `in` for `not in`, and back."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            symbol = _SYMBOLS[type(op)]
            yield from _between(source, "comparison", left, right, symbol, COMPARISONS[symbol])


def arithmetic(source: Source, node: ast.AST) -> Iterator[Change]:
    """`+` for `-`, `*` for `/`, `|` for `&`, and back; also in `+=` and the like."""
    if isinstance(node, ast.BinOp) and (symbol := _SYMBOLS.get(type(node.op))):
        yield from _between(source, "arithmetic", node.left, node.right, symbol, ARITHMETIC[symbol])
    if isinstance(node, ast.AugAssign) and (symbol := _SYMBOLS.get(type(node.op))):
        yield from _between(source, "arithmetic", node.target, node.value, symbol, ARITHMETIC[symbol])


def sign(source: Source, node: ast.AST) -> Iterator[Change]:
    """`x` for `-x`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _whole(source, "sign", node, source.of(node.operand))


def constant(source: Source, node: ast.AST) -> Iterator[Change]:
    """Whole numbers off by one, other numbers doubled (tiny ones: 1), True for False."""
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield _whole(source, "constant", node, str(not node.value))
    elif isinstance(node.value, int):
        yield _whole(source, "constant", node, str(node.value + 1))
    elif isinstance(node.value, float):
        yield _whole(source, "constant", node, str(2 * node.value if abs(node.value) > 1e-4 else 1.0))


def condition(source: Source, node: ast.AST) -> Iterator[Change]:
    """A negated condition of an `if`, a `while` or a comprehension."""
    tests = [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While)) else []
    for test in [*tests, *(node.ifs if isinstance(node, ast.comprehension) else [])]:
        if not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield _whole(source, "condition", test, f"not ({source.of(test)})")


def negation(source: Source, node: ast.AST) -> Iterator[Change]:
    """`x` for `not x` and for `~x`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield _whole(source, "negation", node, source.of(node.operand))


def connective(source: Source, node: ast.AST) -> Iterator[Change]:
    """`and` for `or`, and back."""
    if isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _between(source, "connective", left, right, old, new)


def arguments(source: Source, node: ast.AST) -> Iterator[Change]:
    """The first two arguments of a call in the other order."""
    if not isinstance(node, ast.Call) or len(node.args) < 2 or called(node) in UNSWAPPED:
        return
    first, second = node.args[:2]
    if isinstance(first, ast.Starred) or isinstance(second, ast.Starred) or source.of(first) == source.of(second):
        return
    (start, after_first), (before_second, end) = source.span(first), source.span(second)
    by = source.of(second) + source.slice(after_first, before_second) + source.of(first)
    yield Change("arguments", start, end, by)


def returned(source: Source, node: ast.AST) -> Iterator[Change]:
    """`return None` for any other value."""
    if isinstance(node, ast.Return) and node.value and source.of(node.value) != "None":
        yield _whole(source, "return", node, "return None")


def bounds(source: Source, node: ast.AST) -> Iterator[Change]:
    """A slice without its lower or its upper bound."""
    if isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound is not None and source.of(bound) != "0":
                yield _whole(source, "bounds", bound, "")


def name(source: Source, node: ast.AST) -> Iterator[Change]:
    """`min` for `max`, `mean` for `sum`, `any` for `all`, and the like."""
    if isinstance(node, ast.Call) and (other := NAMES.get(called(node))):
        end = source.span(node.func)[1]
        if not (isinstance(node.func, ast.Name) and {"mean"} & {called(node), other}):
            yield Change("name", end - len(called(node).encode()), end, other)


def statement(source: Source, node: ast.AST) -> Iterator[Change]:
    """A call that is made for its effect, or an update in place, left out."""
    if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or isinstance(node, ast.AugAssign):
        yield _whole(source, "statement", node, "pass")


def called(node: ast.Call) -> str:
    """The last part of a called function's name, "" where it has none."""
    func = node.func
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


OPERATORS: tuple[Operator, ...] = (
    *(comparison, arithmetic, sign, constant, condition, negation, connective),
    *(arguments, returned, bounds, name, statement),
)
