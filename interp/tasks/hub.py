"""Benchmarks from the Hugging Face hub: GSM8K, MATH-500 and AIME, with their own answers."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp.errors import InterpError, one_line
from interp.tasks.base import Problem
from interp.tasks.questions import QuestionTask, column
from interp.tasks.splits import bucket, fingerprint

TRAIN_SHARE = 8
"""In a benchmark of one split, one problem in this many is for training: the benchmark is for measuring."""
_CALCULATOR = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's place on the hub and the names of its columns."""

    path: str
    splits: tuple[str, ...]
    """The hub's own splits: train and test, or only one of them."""
    question: str
    answer: str
    """Column of the final answer, which follows `####` where the column holds worked steps too."""
    config: str | None = None
    solution: str | None = None
    """Column of worked steps, None where they are in `answer`."""
    level: str | None = None
    """Column of the difficulty; None where it is the number of worked lines."""
    hashes: bool = False
    """Whether its own solutions end with `####` and the answer, so that models write it too."""


BENCHMARKS = {
    "gsm8k": Benchmark("openai/gsm8k", ("train", "test"), "question", "answer", config="main", hashes=True),
    "math500": Benchmark("HuggingFaceH4/MATH-500", ("test",), "problem", "answer", solution="solution", level="level"),
    "aime": Benchmark("gneubig/aime-1983-2024", ("train",), "Question", "Answer", level="Year"),
}


@dataclass(frozen=True)
class HubTask(QuestionTask):
    """One benchmark of the hub. The difficulty is MATH-500's level (1 to 5), AIME's year, and the number
    of worked lines in GSM8K."""

    name: str
    """A key of `BENCHMARKS`."""

    @property
    def hashes_first(self) -> bool:
        return BENCHMARKS[self.name].hashes

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        """`n` problems of a split, drawn without replacement (all of them where it has fewer).

        Raises:
            InterpError: the hub cannot be reached, or the benchmark lacks a column.
        """
        questions = self._questions(split)
        drawn = random.Random(f"{self.name}-{split}-{seed}").sample(sorted(questions), len(questions))
        return [self._problem(question, questions[question]) for question in drawn[:n]]

    def _questions(self, split: str) -> dict[str, dict[str, Any]]:
        """Row by question. The hub's own splits where there are two, without the questions that both hold; else by a
        checksum of the question."""
        splits = BENCHMARKS[self.name].splits
        if len(splits) == 1:
            rows = self._rows(splits[0])
            return {q: row for q, row in rows.items() if (bucket(q, TRAIN_SHARE) == 0) == (split == "train")}
        held_out = self._rows("test")
        if split == "test":
            return held_out
        return {q: row for q, row in self._rows("train").items() if q not in held_out}

    def _rows(self, split: str) -> dict[str, dict[str, Any]]:
        source = BENCHMARKS[self.name]
        return {str(column(row, source.question, source.path)): row for row in read_split(self.name, split)}

    def _problem(self, question: str, row: Mapping[str, Any]) -> Problem:
        source = BENCHMARKS[self.name]
        worked, _, answer = str(column(row, source.answer, source.path)).rpartition("####")
        if source.solution is not None:
            worked = str(column(row, source.solution, source.path))
        worked = _CALCULATOR.sub("", worked).strip()
        level = len(worked.splitlines()) if source.level is None else int(column(row, source.level, source.path))
        return Problem(
            id=f"{self.name}-{fingerprint(question)}",
            prompt=self.ask(question),
            answer=answer.strip(),
            difficulty=level,
            trace=worked or None,
        )


def read_split(name: str, split: str) -> list[dict[str, Any]]:
    """All rows of one split of a benchmark, from the hub or from its local cache.

    Raises:
        InterpError: the rows cannot be read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    source = BENCHMARKS[name]
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # a line for each of its retries
    try:
        return [dict(row) for row in load_dataset(source.path, source.config, split=split)]
    except (OSError, ValueError, DatasetsError) as error:
        raise InterpError(
            f"task.kind = {name}: {source.path} cannot be read from the Hugging Face hub "
            f"({one_line(error, 300)}); put the problems into a JSONL and set traces.file"
        ) from error
