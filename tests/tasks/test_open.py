"""A task is opened by its name, or from a file."""

import json

import pytest

from interp import tasks
from interp.errors import InterpError
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask
from interp.tasks.gym import GymTask
from interp.tasks.hub import HubTask


@pytest.mark.parametrize("name", ["gsm8k", "math500", "aime"])
def test_a_benchmark_is_opened_by_its_name(name):
    task = tasks.open(name, prompt="Q {question}")
    assert isinstance(task, HubTask) and task.name == name


def test_chains_are_as_long_as_asked():
    task = tasks.open("chains", terms=3)
    assert isinstance(task, ChainTask)
    (problem,) = task.problems(1, 0, "test")
    assert sum(word.isdigit() for word in problem.prompt.split()) == 3


def test_a_data_set_of_reasoning_gym_is_opened(monkeypatch):
    given = []
    monkeypatch.setattr(GymTask, "__init__", lambda self, *args, **named: given.append((args, named)))
    tasks.open("reasoning_gym", data_set="chain_sum", options={"min_terms": 2}, prompt="Q {question}", modulus=10)
    assert given == [(("chain_sum", {"min_terms": 2}), {"prompt": "Q {question}", "modulus": 10})]


def test_a_file_is_opened_by_its_path_and_another_word_is_refused(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({"question": "2 + 2", "answer": 4}) + "\n")
    for source in (path, str(path)):
        task = tasks.open(source, prompt="Q {question}")
        assert isinstance(task, FileTask)
        (problem,) = task.problems(9, 0, "test")
        assert (problem.prompt, problem.answer) == ("Q 2 + 2", "4")
    with pytest.raises(InterpError, match="did you mean 'chains'"):
        tasks.open("chain")
    with pytest.raises(InterpError, match=r"none\.jsonl"):
        tasks.open(tmp_path / "none.jsonl").problems(1, 0, "test")
