"""The user's own problems, from JSONL or Parquet with columns `question`, `answer` and optionally `trace`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import InterpError, one_line
from interp.tasks.base import Problem
from interp.tasks.questions import QuestionTask, column

_NOT_FINITE = (float("inf"), float("-inf"))


@dataclass(frozen=True)
class FileTask(QuestionTask):
    """The problems of one file, in its order. Their difficulty is unknown, and is 0."""

    path: Path
    name: str = "file"

    def problems(self, n: int, seed: int = 0, split: str = "test") -> list[Problem]:
        """The file's first `n` problems (all of them where it has fewer); a file has one split.

        Raises:
            InterpError: the file is missing, empty, not of the form, or an answer cannot be graded; the line is named.
        """
        rows = read_rows(self.path)
        return [self._problem(where, row) for where, row in rows[:n]]

    def _problem(self, where: str, row: dict[str, Any]) -> Problem:
        question, answer = column(row, "question", where), column(row, "answer", where)
        if not isinstance(question, (str, int, float)) or not str(question).strip():
            raise InterpError(f"{where}: the question {question!r} is empty; give a text")
        if (
            isinstance(answer, bool)
            or not isinstance(answer, (str, int, float))
            or not str(answer).strip()
            or answer in _NOT_FINITE
            or answer != answer
        ):
            raise InterpError(f"{where}: the answer {answer!r} cannot be graded; give a number or a short text")
        trace = row.get("trace")
        return Problem(
            id=f"line {where.rpartition(':')[2]}",
            prompt=self.ask(str(question)),
            answer=str(answer).strip(),
            trace=str(trace) if trace else None,
        )


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) for every row of a JSONL or Parquet file.

    Raises:
        InterpError: the file is missing or empty, or a row is not a JSON object.
    """
    if not path.is_file():
        raise InterpError(f"traces.file = {path}: no such file; give a JSONL or Parquet file")
    rows = list(_parquet(path) if path.suffix == ".parquet" else _jsonl(path))
    if not rows:
        raise InterpError(f"{path}: the file is empty; it needs rows with `question` and `answer`")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InterpError(f"{path}: not a text file ({error.reason}); give JSONL or Parquet") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InterpError:
    reason = error.strerror or one_line(error)
    return InterpError(f"traces.file = {path}: cannot be read ({reason}); give a file that you may read")


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InterpError(f"{path}:{number}: not JSON ({error}); every line must be one object") from error
        if not isinstance(row, dict):
            raise InterpError(f'{path}:{number}: a {type(row).__name__}, not an object; write {{"question": ...}}')
        yield f"{path}:{number}", row


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import polars as pl

    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a panic is no Exception
        raise InterpError(f"{path}: not a Parquet file ({one_line(error)}); write it anew") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        yield f"{path}:{number}", row
