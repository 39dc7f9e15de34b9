"""The problems that a study measures its models on."""

from __future__ import annotations

from pathlib import Path

from interp.config import StudyConfig
from interp.tasks.base import Problem, Task
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask
from interp.tasks.gym import GymTask
from interp.tasks.hub import HubTask


def task_of(config: StudyConfig) -> Task:
    """The task that the config names: the user's file if `traces.file` is set."""
    task, traces = config.task, config.traces
    if traces.file is not None:
        return FileTask(Path(traces.file), prompt=traces.prompt, modulus=traces.modulus)
    if task.kind == "chains":
        return ChainTask(task.terms)
    if task.kind == "reasoning_gym":
        return GymTask(task.data_set or "", task.options, prompt=traces.prompt, modulus=traces.modulus)
    return HubTask(task.kind, prompt=traces.prompt, modulus=traces.modulus)


def test_problems(config: StudyConfig) -> list[Problem]:
    """Held-out problems; no organism was trained on any of them."""
    return task_of(config).problems(config.traces.problems, config.seed, "test")


def labels_by_construction(config: StudyConfig) -> bool:
    """Whether behaviours are labelled from the equations of a text rather than from its sentences; by default only for
    chains, where every step is an equation."""
    labels, chains = config.traces.labels, config.traces.file is None and config.task.kind == "chains"
    return chains if labels == "auto" else labels == "construction"
