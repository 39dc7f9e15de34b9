"""The split of a store's rows into training and held-out, by problem."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping

from interp.errors import InterpError

HELD_OUT_ROWS = 2048
"""Rows that the held-out problems shall have, if a fifth of the problems has as many."""


def held_out_problems(rows: Mapping[str, int], seed: int) -> frozenset[str]:
    """Problems on whose rows nothing is trained: 5 % of them, more where these have fewer than HELD_OUT_ROWS rows, but
    at most a fifth; at least one. They are the first in the order of a hash of the seed and the problem's id.

    Args:
        rows: problem to its number of rows, at least 1.

    Raises:
        InterpError: there are fewer than two problems.
    """
    if len(rows) < 2:
        raise InterpError(
            f"activations: rows of {len(rows)} problem are left and at least 2 are needed, since one is held out; "
            "raise traces.problems, or give traces.file more rows"
        )
    order = sorted(rows, key=lambda problem: hashlib.sha256(f"held out/{seed}/{problem}".encode()).digest())
    totals = itertools.accumulate(rows[problem] for problem in order)
    enough = 1 + sum(total < HELD_OUT_ROWS for total in totals)
    n = max(1, min(max(math.ceil(len(order) / 20), enough), len(order) // 5))
    return frozenset(order[:n])
