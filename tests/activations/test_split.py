import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.activations.split import HELD_OUT_ROWS, held_out_problems
from interp.errors import InterpError

problems = st.dictionaries(st.text(max_size=4), st.integers(1, 3000), min_size=2, max_size=120)


@given(rows=problems, seed=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_about_a_twentieth_or_enough_rows_but_at_most_a_fifth(rows, seed):
    held_out, most = held_out_problems(rows, seed), max(1, len(rows) // 5)
    assert held_out <= set(rows)
    assert 1 <= len(held_out) <= most < len(rows)
    if len(held_out) < most:
        assert len(held_out) >= math.ceil(len(rows) / 20)
        assert sum(rows[p] for p in held_out) >= HELD_OUT_ROWS
    assert held_out_problems(dict(reversed(rows.items())), seed) == held_out, "the order of problems decides nothing"


@pytest.mark.parametrize(
    ("n", "rows", "expected"),
    [(2, 10, 1), (9, 9000, 1), (100, 10_000, 5), (100, 400, 6), (100, 512, 5), (100, 10, 20), (4000, 50, 200)],
)
def test_numbers_of_problems_by_hand(n, rows, expected):
    """6 problems of 400 rows are the first that hold 2,048; 4 of 512 do, but 5 % are 5."""
    assert len(held_out_problems({f"p{i}": rows for i in range(n)}, 0)) == expected


def test_seeds_hold_out_other_problems_and_all_are_held_out_alike():
    rows = {f"p{i}": 100 for i in range(200)}
    chosen = [held_out_problems(rows, seed) for seed in range(200)]
    assert chosen[0] != chosen[1] and held_out_problems(rows, 0) == chosen[0]
    counts = [sum(p in held_out for held_out in chosen) for p in rows]
    expected = 200 * len(chosen[0]) / 200
    assert max(abs(n - expected) for n in counts) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("rows", [{}, {"line 1": 40}])
def test_one_problem_cannot_be_split(rows):
    with pytest.raises(InterpError, match=rf"rows of {len(rows)} problem.*at least 2.*traces\.problems"):
        held_out_problems(rows, 0)
