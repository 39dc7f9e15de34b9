"""One side of a formula: the signs between two equals signs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from interp.traces.signs import CLOSE, OPEN, OPERATOR, POWER, UNKNOWN, Sign

Operands = tuple[str, ...]
"""Numbers, operators and brackets of an expression, in order and normal form."""


def depth(side: Sequence[Sign]) -> int:
    """Brackets that are open at the end of a side."""
    kinds = [sign.kind for sign in side]
    return kinds.count(OPEN) - kinds.count(CLOSE)


def stripped(side: Sequence[Sign], outer: bool = True) -> Sequence[Sign]:
    """What follows the last bracket that is left open, without the brackets around all of it (unless `outer` is
    off)."""
    open_, cut = 0, 0
    for i in reversed(range(len(side))):
        open_ += (side[i].kind == CLOSE) - (side[i].kind == OPEN)
        if open_ < 0:
            cut = i + 1
            break
    side = side[cut:]
    while outer and len(side) > 2 and side[0].kind == OPEN and side[-1].kind == CLOSE:
        depths = list(itertools.accumulate((s.kind == OPEN) - (s.kind == CLOSE) for s in side))
        if 0 in depths[:-1]:
            break
        side = side[1:-1]
    return side


def expression(side: Sequence[Sign]) -> Operands | None:
    """The operands of a side that computes something, else None."""
    side = stripped(side)
    if not any(sign.kind == OPERATOR for sign in side) or side[-1].kind == OPERATOR:
        return None
    known = all(sign.kind != UNKNOWN and sign.text != POWER for sign in side)
    return tuple(sign.text for sign in side) if known else None
