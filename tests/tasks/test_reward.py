"""GRPO's reward is the grade that a study gives."""

from types import SimpleNamespace

import pytest
import torch

from interp.config import ZeroRLConfig
from interp.models.training import reinforce
from interp.tasks.base import Problem
from interp.tasks.file import FileTask
from interp.tasks.grading import grade
from tests.tasks.answer_pairs import COMPLETIONS


class BuiltError(Exception):
    """Ends a training run where it would begin, with the reward function that trl was given."""

    def __init__(self, reward):
        self.reward = reward


def built(reward_funcs, **_):
    raise BuiltError(reward_funcs)


class Raising(FileTask):
    def correct(self, problem, completion):
        raise ValueError("no number")


def reward_of(task, problems, monkeypatch):
    monkeypatch.setattr("trl.trainer.grpo_trainer.GRPOTrainer", built)
    recipe = ZeroRLConfig(steps=1, completions=4, group_size=2, max_new_tokens=4)
    with pytest.raises(BuiltError) as caught:
        reinforce(SimpleNamespace(device=torch.device("cpu")), None, problems, task, recipe, 0)
    return caught.value.reward


def test_the_reward_of_every_completion_is_its_grade_on_its_own_problem(monkeypatch):
    task = FileTask("none")
    problems = [Problem(str(i), f"question {i}", gold) for i, (gold, *_) in enumerate(COMPLETIONS)]
    reward = reward_of(task, problems, monkeypatch)
    texts = [completion for _, completion, _ in COMPLETIONS]
    for shift in (0, 1, 5):  # completions of other problems too
        places = [(i + shift) % len(problems) for i in range(len(problems))]
        expected = [float(grade(task, problems[i], text).correct) for i, text in zip(places, texts, strict=True)]
        assert reward(completions=texts, problem=places) == expected
    own = [*range(len(problems))]
    assert reward(completions=texts, problem=own) == [float(right) for *_, right in COMPLETIONS]


def test_a_grader_that_raises_gives_no_reward_and_ends_no_training(monkeypatch):
    reward = reward_of(Raising("none"), [Problem("x", "x", "7")], monkeypatch)
    assert reward(completions=["7", "7"], problem=[0, 0]) == [0.0, 0.0]
