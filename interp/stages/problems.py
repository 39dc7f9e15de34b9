"""The problems that a study measures its models on."""

from __future__ import annotations

from pathlib import Path

from interp import tasks
from interp.config import StudyConfig
from interp.tasks.base import Problem, Task


def task_of(config: StudyConfig) -> Task:
    """The task that the config names: the user's file if `traces.file` is set."""
    task, traces = config.task, config.traces
    return tasks.open(
        task.kind if traces.file is None else Path(traces.file),
        prompt=traces.prompt,
        modulus=traces.modulus,
        terms=task.terms,
        data_set=task.data_set or "",
        options=task.options,
    )


def test_problems(config: StudyConfig) -> list[Problem]:
    """Held-out problems; no organism was trained on any of them."""
    return task_of(config).problems(config.traces.problems, config.seed, "test")


def labels_by_construction(config: StudyConfig) -> bool:
    """Whether behaviours are labelled from the equations of a text rather than from its sentences; by default only for
    chains, where every step is an equation."""
    labels, chains = config.traces.labels, config.traces.file is None and config.task.kind == "chains"
    return chains if labels == "auto" else labels == "construction"
