"""The problems a study measures on."""

from __future__ import annotations

from pathlib import Path

from interp.config import StudyConfig
from interp.tasks.base import Problem, Task
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask


def task_of(config: StudyConfig) -> Task:
    """The user's file where one is given, else the project's own task."""
    traces = config.traces
    if traces.file is not None:
        return FileTask(Path(traces.file), traces.prompt, traces.modulus)
    return ChainTask(config.task.terms)


def test_problems(config: StudyConfig) -> list[Problem]:
    """Held-out problems; no organism was trained on any of them."""
    return task_of(config).problems(config.traces.problems, config.seed, "test")


def labels_by_construction(config: StudyConfig) -> bool:
    """Whether behaviours are read off the equations rather than off the sentences."""
    labels = config.traces.labels
    return config.traces.file is None if labels == "auto" else labels == "construction"
