"""The user's own problems, from JSONL or Parquet: `question`, `answer` and optionally `trace`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from interp.errors import InterpError, nearest
from interp.tasks.base import Problem

_ENDING = re.compile(r"####\s*(.+?)\s*$", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_NUMBER = re.compile(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:/\d+)?")
_PLAIN = re.compile(r"-?[\d,]*\.?\d*(?:/\d+)?")
_NOT_FINITE = (float("inf"), float("-inf"))


@dataclass(frozen=True)
class FileTask:
    """Problems of one file, in its order."""

    path: Path
    prompt: str = "{question}"
    """Template in which `{question}` stands for the question."""
    modulus: int | None = None
    """Arithmetic of the equations in the traces; None is ordinary arithmetic."""
    name: str = "file"

    def problems(self, n: int, seed: int = 0, split: str = "test") -> list[Problem]:
        """The file's first `n` problems (all of them where it has fewer); a file has one split.

        Raises:
            InterpError: the file is missing, empty, not of the form, or an answer cannot be graded; the line is named.
        """
        rows = read_rows(self.path)
        return [self._problem(where, row) for where, row in rows[:n]]

    def _problem(self, where: str, row: dict[str, Any]) -> Problem:
        for column in ("question", "answer"):
            if column not in row:
                raise InterpError(f"{where}: no column {column!r}; {nearest(column, row)}")
        question, answer = row["question"], row["answer"]
        if not isinstance(question, (str, int, float)) or not str(question).strip():
            raise InterpError(f"{where}: the question {question!r} says nothing; give a text")
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
            prompt=self.prompt.replace("{question}", str(row["question"])),
            answer=str(answer).strip(),
            trace=str(trace) if trace else None,
        )

    def answer_of(self, completion: str) -> str | None:
        """What stands after the last `####`, else in the last `\\boxed{}`, else the last number."""
        for pattern in (_ENDING, _BOXED):
            if found := pattern.findall(completion):
                return found[-1].strip()
        numbers = _NUMBER.findall(completion)
        return numbers[-1] if numbers else None

    def correct(self, problem: Problem, completion: str) -> bool:
        stated = self.answer_of(completion)
        return stated is not None and same_answer(problem.answer, stated)

    def true_result(self, a: str, op: str, b: str) -> str | None:
        x, y = Fraction(a), Fraction(b)
        if op in "/÷" and (y == 0 or self.modulus is not None):
            return None
        value = {"+": x + y, "-": x - y, "*": x * y, "×": x * y}.get(op)
        value = x / y if value is None else value
        return str(value % self.modulus if self.modulus is not None else value)


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
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InterpError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from error
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        yield f"{path}:{number}", row


@lru_cache(maxsize=65536)
def same_answer(gold: str, stated: str) -> bool:
    """Equal as text, as numbers, or as mathematics (math-verify)."""
    if gold.strip().lower() == stated.strip().lower():
        return True
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(stated):  # no exponents: 1e999999999 would be written out
        try:
            return Fraction(gold.replace(",", "")) == Fraction(stated.replace(",", ""))
        except (ValueError, ZeroDivisionError):
            return False
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)

    # No timeout: math-verify's uses signals, which only a main thread can take.
    left, right = (parse(f"${text}$", parsing_timeout=0) for text in (gold, stated))
    return bool(left) and bool(right) and verify(left, right, timeout_seconds=None)
