import pytest

from interp.errors import InterpError
from interp.tasks.base import Problem
from interp.tasks.chains import ChainTask
from interp.tasks.grading import Grade, grade

PROBLEM = Problem("one", "Q 1 + 1 A", "2")


class Raising(ChainTask):
    def correct(self, problem, completion):
        raise self.error


def raising(error):
    task = Raising()
    object.__setattr__(task, "error", error)
    return task


def test_what_a_grader_says_is_taken_as_it_is():
    assert grade(ChainTask(), PROBLEM, "#### 2") == Grade(correct=True)
    assert grade(ChainTask(), PROBLEM, "#### 3") == Grade(correct=False)
    assert not grade(ChainTask(), PROBLEM, "").failed


def test_a_grader_that_raises_makes_it_wrong_and_counted():
    found = grade(raising(ValueError("no\nnumber")), PROBLEM, "#### 2")
    assert not found.correct and found.failed
    assert found.error == "ValueError: no number"


@pytest.mark.parametrize("error", [InterpError("install it"), KeyboardInterrupt()])
def test_what_the_user_must_hear_passes_through(error):
    with pytest.raises(type(error)):
        grade(raising(error), PROBLEM, "#### 2")
