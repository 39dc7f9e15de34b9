"""reasoning-gym itself, where it is installed (`pip install 'interp[gym]'`)."""

import pytest

from interp.errors import InterpError
from interp.tasks.grading import grade
from interp.tasks.gym import GymTask

pytest.importorskip("reasoning_gym", reason="the extra `gym` is not installed")


@pytest.mark.parametrize(
    "name",
    ["chain_sum", "basic_arithmetic", "gcd", "letter_counting", "base_conversion", "word_sorting", "list_functions"],
)
def test_its_own_answers_are_right_however_they_are_stated_and_others_wrong(name):
    task = GymTask(name)
    train, test = task.problems(20, 0, "train"), task.problems(20, 0, "test")
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    assert GymTask(name).problems(20, 0, "test") == test
    for problem in test:
        right = problem.answer
        for stated in (f"#### {right}", f"<answer>{right}</answer>", f"so\nThe answer is {right}"):
            assert task.correct(problem, stated)
        for stated in ("", "zzz", f"#### perhaps {right}, perhaps not"):
            assert not task.correct(problem, stated)


def test_options_and_difficulty():
    problems = GymTask("chain_sum", {"min_terms": 3, "max_terms": 4}).problems(20, 0, "test")
    assert {p.difficulty for p in problems} == {3, 4}


def test_many_right_answers_are_left_to_the_scorer():
    task = GymTask("propositional_logic")
    problem = task.problems(1, 0, "test")[0]
    assert task.correct(problem, f"#### {problem.entry['metadata']['example_answer']}")
    assert not task.correct(problem, "#### zzz")


def test_full_marks_for_prose_are_not_had():
    """gsm_symbolic's scorer takes the first number of any text."""
    task = GymTask("gsm_symbolic")
    problem = task.problems(1, 0, "test")[0]
    assert task.correct(problem, f"I tried 1.\n#### {problem.answer}")
    assert not task.correct(problem, f"{problem.answer} is what I tried.\n#### -1")


def test_a_scorer_that_raises_is_counted():
    task = GymTask("prime_factorization")
    problem = task.problems(1, 0, "test")[0]
    assert grade(task, problem, "I cannot tell").failed
    assert grade(task, problem, f"#### {problem.answer}").correct


def test_a_scorer_that_cannot_say_no_is_refused():
    with pytest.raises(InterpError, match="accepts any text"):
        GymTask("game_of_life_halting").problems(8, 0, "test")
