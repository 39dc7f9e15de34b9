"""Which problems a study asks, and how their behaviours are labelled."""

from pathlib import Path

import pytest

from interp.config import check_config
from interp.stages.problems import labels_by_construction, task_of
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask
from interp.tasks.gym import GymTask
from interp.tasks.hub import HubTask

OWN = {"checkpoints": {"base": "a", "distilled": "b", "zero_rl": "c"}}
TRACES = {"prompt": "Q {question}", "modulus": 7}
GYM = {"kind": "reasoning_gym", "data_set": "gcd", "options": {"min_numbers": 3}}


def config(**changes):
    return check_config(changes, "here")


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"task": {"terms": 4}}, ChainTask(4)),
        ({"traces": {"file": "a.jsonl", **TRACES}}, FileTask(Path("a.jsonl"), prompt="Q {question}", modulus=7)),
        ({**OWN, "task": {"kind": "gsm8k"}, "traces": TRACES}, HubTask("gsm8k", prompt="Q {question}", modulus=7)),
        ({**OWN, "task": GYM, "traces": TRACES}, GymTask("gcd", {"min_numbers": 3}, prompt="Q {question}", modulus=7)),
    ],
)
def test_the_config_picks_the_task(changes, task):
    assert task_of(config(**changes)) == task


@pytest.mark.parametrize(
    ("changes", "construction"),
    [
        ({}, True),
        ({"traces": {"labels": "sentences"}}, False),
        ({"traces": {"file": "a.jsonl"}}, False),
        ({"traces": {"file": "a.jsonl", "labels": "construction"}}, True),
        ({**OWN, "task": {"kind": "math500"}}, False),
        ({**OWN, "task": {"kind": "math500"}, "traces": {"labels": "construction"}}, True),
    ],
)
def test_labels_are_read_off_equations_in_chains_or_on_request(changes, construction):
    assert labels_by_construction(config(**changes)) == construction
