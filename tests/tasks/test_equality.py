"""Grading against the table of `answer_pairs`, and on texts written to be slow."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.tasks import expressions
from interp.tasks.answers import same_answer
from interp.tasks.base import Problem
from interp.tasks.equality import same
from interp.tasks.expressions import mathematical, readable
from interp.tasks.file import FileTask
from interp.tasks.grading import Grade, grade
from interp.tasks.hub import HubTask
from tests.tasks.answer_pairs import ANSWERS, COMPLETIONS, HASHED_COMPLETIONS

FILE = FileTask("none")


def correct(task, gold, completion):
    found = grade(task, Problem("x", "x", gold), completion)
    assert not found.failed, found.error
    return found.correct


def test_the_table_is_large_and_has_no_row_twice():
    for rows in (ANSWERS, COMPLETIONS, HASHED_COMPLETIONS):
        assert len({row[:2] for row in rows}) == len(rows)
        assert {right for *_, right in rows} == {True, False}
    assert len(ANSWERS) >= 200


@pytest.mark.parametrize(("gold", "stated", "right"), ANSWERS)
def test_answers(gold, stated, right):
    assert same_answer(gold, stated) is right


@pytest.mark.parametrize(("gold", "stated", "right"), ANSWERS)
def test_a_box_does_not_change_an_answer(gold, stated, right):
    if stated and "\\boxed" not in stated:
        assert correct(FILE, gold, f"I think it is \\boxed{{{stated}}}, not 17.") is right


@pytest.mark.parametrize("task", [FILE, HubTask("math500"), HubTask("aime")], ids=lambda task: task.name)
@pytest.mark.parametrize(("gold", "completion", "right"), COMPLETIONS)
def test_completions_of_mathematics(task, gold, completion, right):
    assert correct(task, gold, completion) is right


@pytest.mark.parametrize(("gold", "completion", "right"), HASHED_COMPLETIONS)
def test_completions_of_a_task_that_ends_in_hashes(gold, completion, right):
    assert correct(HubTask("gsm8k"), gold, completion) is right


@pytest.mark.parametrize("gold", sorted({gold for gold, *_ in ANSWERS}))
def test_every_gold_answer_is_its_own_right_answer(gold):
    assert same(gold, gold)
    assert correct(FILE, gold, f"\\boxed{{{gold}}}")


def test_verdicts_do_not_depend_on_what_was_graded_before():
    rows = [*ANSWERS]
    for seed in range(2):
        random.Random(seed).shuffle(rows)
        same_answer.cache_clear()
        expressions._parsed.cache_clear()
        assert [row for row in rows if same_answer(*row[:2]) is not row[2]] == []


@given(gold=st.text(max_size=40), stated=st.text(max_size=40))
def test_no_pair_of_texts_raises(gold, stated):
    assert same(gold, stated) in (True, False)


@given(answer=st.text("0123456789x%[](){},;. cm\\", max_size=12))
def test_nothing_is_no_answer(answer):
    assert not same(answer, "") and not same("", answer)


@given(
    st.text(r"\{}()[]$^_+-*/=<>|!.,; 019xyfracsqt", max_size=30), st.sampled_from(["1", "x+1", r"\frac{1}{x}", "1, 2"])
)
def test_no_formula_raises(stated, gold):
    assert same(gold, stated) in (True, False)


LONG = 100_000
HOSTILE = {
    "a large exponent": r"\boxed{1e999999999}",
    "a tower": r"\boxed{9^{9^{9^{9^{9}}}}}",
    "a large factorial": r"\boxed{99999999!}",
    "a factorial of factorials": r"\boxed{9!!!!!!!!!!}",
    "a large binomial": r"\boxed{\binom{99999999}{44444444}}",
    "a long sum": r"\boxed{\sum_{i=1}^{999999999} i}",
    "many digits": "9" * LONG,
    "many boxed digits": rf"\boxed{{{'9' * LONG}}}",
    "many commas": "1," * (LONG // 2),
    "many groups of digits": "1" + ",000" * (LONG // 4) + ",0",
    "an exponent that ends in a letter": "1e" + "1" * LONG + "x",
    "boxes that are not closed": r"\boxed{" * (LONG // 7),
    "nested boxes": r"\boxed{" * (LONG // 8) + "1" + "}" * (LONG // 8),
    "nested braces": r"\boxed{" + "{" * (LONG // 2) + "1" + "}" * (LONG // 2) + "}",
    "nested fractions": r"\boxed{" + r"\frac{1}{" * 500 + "2" + "}" * 501,
    "nested roots in a short text": r"\boxed{" + r"\sqrt{" * 15 + "2" + "}" * 16,
    "nested parentheses": r"\boxed{" + "(" * 900 + "1" + ")" * 900 + "}",
    "nested sets": r"\boxed{" + r"\{1," * 300 + r"\}" * 300 + "}",
    "bars": r"\boxed{" + "|x|" * 60 + "}",
    "signs": r"\boxed{" + "-" * 190 + "1}",
    "hashes": "####" * (LONG // 4),
    "lines of hashes": "####\n" * (LONG // 5),
    "hashes and spaces": "#### a" + " " * LONG + "b",
    "a number and full stops": "#### 1" + "." * LONG + "x",
    "dollars": "$" * LONG,
    "open formulas": r"\(" * (LONG // 2) + "1",
    "spaces": r"\boxed{1" + " " * 1900 + "x}",
    "spaces after boxed": r"\boxed" + " " * LONG + "1",
    "words": r"\boxed{" + "a " * 900 + "}",
    "a long list": r"\boxed{" + "x+1," * 400 + "1}",
    "backslashes": "\\" * LONG,
    "text commands": r"\text{" * (LONG // 6),
    "nothing printable": "\x00" * LONG,
}


@pytest.mark.parametrize("task", [FILE, HubTask("gsm8k")], ids=["box first", "hashes first"])
@pytest.mark.parametrize("completion", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("gold", ["7", r"\frac{\sqrt{3}}{2}", "x+1", r"\{1, x+1\}"])
def test_hostile_completions_are_wrong_and_end(task, completion, gold):
    assert grade(task, Problem("x", "x", gold), completion) == Grade(correct=False)


def test_only_small_formulas_reach_the_parser():
    """The parser's time grows with nesting and it writes out what it evaluates: its input is bounded, not its time."""
    assert readable("x" * expressions.LONGEST) and not readable("x" * (expressions.LONGEST + 1))
    deep = expressions.DEEPEST
    for left, right in ("()", "[]", "{}"):
        assert readable(left * deep + right * deep) and not readable(left * (deep + 1) + right * (deep + 1))
        assert not readable(left) and not readable(right)
    assert readable("|" * expressions.BARS) and not readable("|" * (expressions.BARS + 2))
    assert readable(r"\binom{5}{2}") and not readable(r"\binom{55555}{2}")
    assert readable("1" * 30) and not readable("1" * 31)


def test_a_value_too_large_to_compute_has_no_equal_but_itself():
    tower = "9^{9^{9^{9}}}"
    assert same(tower, tower)
    assert not same("1", tower) and not same(tower, "1") and not same(f"{tower} + 1", tower)
    assert same("10^{300} + 1", "1 + 10^{300}") and not same("10^{2000} + 1", "10^{2000} + 2")


@pytest.mark.parametrize("text", ["top", "red, blue", "x", "H2O", "A1", "2nd", "1-2-3", "1.2.3", "5:30", "a b"])
def test_words_are_not_mathematics(text):
    assert not mathematical(text)


@pytest.mark.parametrize("text", ["7", "x+1", r"\pi", "2xy", "abc/2", r"\frac{ab}{cd}", "a=b", "|x|", "n!", r"e^{ix}"])
def test_formulas_are_mathematics(text):
    assert mathematical(text)
