import pytest

from interp.errors import InterpError
from interp.tasks.answers import LONGEST, same_answer
from interp.tasks.base import Problem
from interp.tasks.questions import QuestionTask, column

TASK = QuestionTask()


def test_the_prompt_is_the_template_with_the_question_wherever_it_is_named():
    assert TASK.ask("Why {x}?") == "Why {x}?"
    assert QuestionTask(prompt="Q: {question}\nA ({question}):").ask("7?") == "Q: 7?\nA (7?):"


@pytest.mark.parametrize("modulus", [None, 10])
def test_arithmetic(modulus):
    task = QuestionTask(modulus=modulus)
    assert task.true_result("7", "+", "5") == ("12" if modulus is None else "2")
    assert task.true_result("3", "-", "9") == ("-6" if modulus is None else "4")
    for times in "*×":
        assert task.true_result("7", times, "8") == ("56" if modulus is None else "6")
    for divided in "/÷":
        assert task.true_result("3", divided, "2") == ("3/2" if modulus is None else None)
        assert task.true_result("3", divided, "0") is None
    assert task.true_result("0.5", "+", "1/2") == "1"


def test_a_long_answer_is_right_where_it_is_the_gold_answer_and_is_not_kept():
    same_answer.cache_clear()
    long = "red " * LONGEST
    assert TASK.correct(Problem("x", "x", long.strip()), f"\\boxed{{{long}}}")
    assert not TASK.correct(Problem("x", "x", "red"), f"\\boxed{{{long}}}")
    assert same_answer.cache_info().currsize == 0


def test_the_longest_answer_that_is_read():
    spaced = "7" + " " * (LONGEST - 2) + "."
    assert TASK.correct(Problem("x", "x", "7"), f"\\boxed{{{spaced}}}")
    assert not TASK.correct(Problem("x", "x", "7"), f"\\boxed{{{spaced[:-1]} .}}")


def test_a_column_that_is_not_there_names_the_nearest():
    assert column({"answer": None}, "answer", "rows:1") is None
    with pytest.raises(InterpError, match=r"rows:1: no column 'answer'; did you mean 'answers'\?"):
        column({"answers": 1}, "answer", "rows:1")
