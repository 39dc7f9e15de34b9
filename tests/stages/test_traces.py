"""What the stage makes of a grader that raises: a column, a line on the console, and a wrong answer."""

import pytest

from interp.stages import traces
from interp.tasks.base import Problem
from interp.tasks.chains import ChainTask
from interp.tasks.grading import Grade
from interp.traces.lexicon import load_lexicon
from interp.traces.rollouts import Rollout

PROBLEMS = [Problem(str(i), "Q 3 + 4 A", "7") for i in range(3)]
ROLLOUTS = [Rollout([0], [1, 2], text, True) for text in ("#### 7", "odd", "#### 8")]


class Fragile(ChainTask):
    def correct(self, problem, completion):
        return {"#### 7": True, "#### 8": False}[completion]


@pytest.fixture
def grades():
    return traces._grades(Fragile(), PROBLEMS, ROLLOUTS)


def test_failures_have_a_column_in_both_tables(grades):
    sampled = traces._table("base", PROBLEMS, ROLLOUTS, grades, Fragile(), load_lexicon("default"), True)
    for table in (sampled, traces._greedy("base", PROBLEMS, grades)):
        assert table["correct"].to_list() == [True, False, False]
        assert table["grader_failed"].to_list() == [False, True, False]


def test_one_line_names_how_many_of_which_model_and_what_was_raised(grades, capsys):
    traces._warn_ungraded("zero_rl", grades)
    said = capsys.readouterr().err
    assert (
        said
        == "  zero_rl: the grader raised on 1 of 3 completions, which count as wrong (the first: KeyError: 'odd')\n"
    )


def test_nothing_is_said_where_nothing_was_raised(capsys):
    traces._warn_ungraded("zero_rl", [Grade(correct=False)])
    assert capsys.readouterr().err == ""
