import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.traces.equations import equations, open_equation, recomputations

SPELLED = {
    "+": ("+", " + ", " plus "),
    "-": ("-", " - ", " − ", " minus "),
    "*": ("*", " × ", r" \times ", r" \cdot ", " times ", "·", " x "),
    "/": (" / ", "÷", r" \div ", " divided by "),
}
EQUALS = (" = ", "=", " &= ", " equals ", " is ", " makes ", " is equal to ")
RESULTS = ("{}", "**{}**", r"\boxed{{{}}}", "{}.", "${}", "{} apples", "`{}`")
AROUND = ("{}", "${}$", r"\({}\)", r"\[ {} \]", "**{}**", "({})", "so {}", "1. {}", "- {}", "x: {}\n", "7 pens. {}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7 + 5 = 2 ; 2 - 3 = 9", ["7 + 5 = 2", "2 - 3 = 9"]),
        ("7+5=12, 2×3=6 and 6÷2=3", ["7 + 5 = 12", "2 * 3 = 6", "6 / 2 = 3"]),
        ("-7 - -5 = -2", ["-7 - -5 = -2"]),
        ("0.5 * 4 = 2.0.", ["0.5 * 4 = 2.0"]),
        ("so 12 / 4 = 3.", ["12 / 4 = 3"]),
        ("x1 + 2 = 3", []),
        ("7 + 5 =", []),
        ("7 + = 5", []),
        ("2 + 3 + 4 = 9", ["2 + 3 + 4 = 9"]),
        ("1,234 + 5 = 1,239", ["1234 + 5 = 1239"]),
        (r"1{,}000 \times 3 = 3\,000", ["1000 * 3 = 3000"]),
        ("1,2 + 3 = 4 but 1 + 2 = 3,4", ["1 + 2 = 3"]),
        ("(3 + 4) = 7 and ((3 + 4)) * 2 = 14", ["3 + 4 = 7", "( ( 3 + 4 ) ) * 2 = 14"]),
        ("2(3 + 4) = 14", ["2 * ( 3 + 4 ) = 14"]),
        (r"\frac{12}{4} = 3, \dfrac{1}{2} \times 4 = 2", ["12 / 4 = 3", "( 1 / 2 ) * 4 = 2"]),
        ("(so 3 + 4 = 7)", ["3 + 4 = 7"]),
        ("3 + 4 = 7 + x, 3 + 4 = 7^2", []),
        ("x + 3 + 4 = 9, 2^3 + 1 = 9, 2**3 + 1 = 9, 20% * 50 = 10", []),
        (r"\sqrt{9} + 4 = 7 and f(3 + 4) = 7", []),
        ("5 apples + 3 + 4 = 12", []),
        ("5\n- 3 + 4 = 7\n- 7 - 2 = 5\n* 1 + 1 = 2", ["3 + 4 = 7", "7 - 2 = 5", "1 + 1 = 2"]),
        ("3 + 4 =\n7", ["3 + 4 = 7"]),
        ("3 + 4\n\n= 7", []),
        ("3 * 5 = 15km - good", ["3 * 5 = 15"]),
        ("The sum is 3 + 4 = 7. It is 5. What is 3 + 4?", ["3 + 4 = 7"]),
        ("3 + 4 == 7, 3 + 4 >= 7, 3 + 4 ≈ 7", []),
        ("Step 2 3 + 4 = 7 #### 7", ["3 + 4 = 7"]),
    ],
)
def test_what_is_an_equation(text, found):
    """A part of a longer formula is none of its own: `3 + 4 = 9` and `234 + 5 = 1` would count as wrong steps that
    nobody wrote."""
    assert [f"{' '.join(e.operands)} = {e.result}" for e in equations(text)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 + 4 = 7 + 1 = 8", ["7 + 1 = 8"]),
        ("2 * (3 + 4) = 2 * 7 = 14", ["2 * 7 = 14"]),
        ("12 = 3 + 4 = 7 = 7", ["3 + 4 = 7"]),
        ("7 + 5 = 12 - I think", ["7 + 5 = 12"]),
    ],
)
def test_in_a_chain_a_number_with_an_operator_behind_it_is_no_result(text, found):
    assert [f"{' '.join(e.operands)} = {e.result}" for e in equations(text)] == found


TERMS = st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(0, 12_000)), min_size=1, max_size=4)


@given(st.integers(0, 12_000), TERMS, st.integers(-999, 12_000), st.integers(0, 10**6))
def test_all_notations_are_one_equation(first, terms, result, seed):
    rng = random.Random(seed)

    def number(n):
        return rng.choice((str(n), f"{n:,}"))

    left = number(first) + "".join(rng.choice(SPELLED[op]) + number(n) for op, n in terms)
    shown = number(result)
    inner = left + rng.choice(EQUALS) + rng.choice(RESULTS).format(shown)
    text = rng.choice(AROUND).format(inner)
    (found,) = equations(text)
    assert found.operands == (str(first), *(part for op, n in terms for part in (op, str(n))))
    assert found.result == str(result)
    assert found.binary == (found.operands if len(terms) == 1 else None)
    assert text[found.shown : found.end] == shown
    assert text[found.start : found.equals] + text[found.equals : found.end] in text
    assert text[found.start : found.end].startswith(left[:1])
    for cut in (found.equals, *range(found.shown + 1, found.end + 1)):
        assert open_equation(text[:cut]) == (found.operands, text[found.shown : cut])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 + 4 =", ("3 + 4", "")),
        ("3 + 4 = 7", ("3 + 4", "7")),
        ("1 + 1 = 2. 7 plus 5 is ", ("7 + 5", "")),
        (r"$7 \times 5 = \boxed{3", ("7 * 5", "3")),
        ("(3 + 4) * 2 = **", ("( 3 + 4 ) * 2", "")),
        ("3 + 4 = -", ("3 + 4", "-")),
        ("3 + 4 = 1,2", ("3 + 4", "1,2")),
        ("3 + 4 = 1,", ("3 + 4", "1,")),
        ("3 + 4 = 7 ", None),
        ("3 + 4 = 7 ; ", None),
        ("3 + 4 = = ", None),
        ("3 + 4", None),
        ("x + 4 =", None),
        ("3 + 4 = x", None),
        ("", None),
    ],
)
def test_the_open_equation_at_the_end(text, found):
    opened = open_equation(text)
    assert (None if opened is None else (" ".join(opened[0]), opened[1])) == found


def test_notation_does_not_hide_a_recomputation():
    (pair,) = recomputations(r"$7 \times 5 = 30$. Wait. 7 times 5 makes **35**.")
    assert [e.result for e in pair] == ["30", "35"]


HOSTILE = (
    "1+",
    "(",
    ")",
    "3 + 4 = ",
    f"{'(' * 30}3{')' * 30}=7 ",
    "x  ",
    r"\frac{",
    r"\a{",
    "1,",
    "*",
    "1**",
    "\n",
    "is ",
)


@pytest.mark.parametrize("piece", [*HOSTILE, " ", "-", "\\", "1.", r"\boxed ", "7 plus 5 is ", "a'", r"\frac{1"])
def test_time_is_proportional_to_the_length(piece):
    """200,000 characters take about a second at most; the bound leaves room for a busy machine."""
    text = (piece * 200_000)[:200_000]
    began = time.process_time()
    equations(text)
    assert time.process_time() - began < 5
