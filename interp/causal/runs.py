"""Runs: the long table of everything that was run, one row an (arm, draw, problem), written as it comes.

A run is one arm's draw (0 the edit itself, from 1 its controls) on one model under one decoding. Each is a Parquet file
of its own, named by a hash of all that it depends on: an interrupted table resumes at the run, and a changed dose runs
that dose alone. Effects, checks, verdict and figures are pure functions of the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from interp.causal.setting import SAMPLED
from interp.disk import replacing
from interp.errors import InterpError, one_line
from interp.names import EDITED, OUTCOMES
from interp.traces.measure import Outcomes

UNTOUCHED = "untouched"
"""Name of the runs without an edit."""
INDEX = "index.json"
KEYS = ("arm", "draw", "model", "decoding")
SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "draw": pl.Int32,
    "model": pl.String,
    "decoding": pl.String,
    "problem": pl.String,
    "number": pl.Int32,
    "difficulty": pl.Int64,
    "fired": pl.Int32,
    "n_tokens": pl.Int32,
    "done": pl.Boolean,
    "text": pl.String,
    "completion_ids": pl.List(pl.Int32),
    "prompt_ids": pl.List(pl.Int32),
} | {f"{outcome}_{part}": pl.Float64 for outcome in OUTCOMES for part in ("top", "bottom")}
"""Columns: `number` is the problem's place in the study, `fired` how often the edit changed the row, `done` whether it
ended within the limit; each outcome is top / bottom, summed over problems."""


@dataclass(frozen=True)
class Runs:
    """The table, with the arms that it was run for."""

    table: pl.DataFrame
    arms: Mapping[str, Mapping[str, Any]]
    """Name to family, claim, models, control_name, site, layer, dose, note."""

    @cached_property
    def _groups(self) -> dict[tuple, pl.DataFrame]:
        return {
            key: group.sort("number")
            for key, group in self.table.partition_by(*KEYS, as_dict=True, maintain_order=True).items()
        }

    def only(self, arms: Iterable[str]) -> Runs:
        """The untouched runs and those of some arms."""
        wanted = set(arms)
        kept = [name for name in self.arms if name in wanted]
        return Runs(
            self.table.filter(pl.col("arm").is_in([UNTOUCHED, *kept])), {name: self.arms[name] for name in kept}
        )

    def rows(self, arm: str, draw: int = 0, model: str = EDITED, decoding: str = SAMPLED) -> pl.DataFrame:
        """One run, in the order of its problems.

        Raises:
            InterpError: there is no such run.
        """
        key = (arm, draw, model, decoding)
        if key not in self._groups:
            known = ", ".join(dict.fromkeys(name for name, *_ in self._groups))
            raise InterpError(f"runs: no run {arm!r} of {model}, draw {draw}, {decoding}; there are {known}")
        return self._groups[key]

    def has(self, arm: str, draw: int = 0, model: str = EDITED, decoding: str = SAMPLED) -> bool:
        """Whether there is such a run."""
        return (arm, draw, model, decoding) in self._groups

    def draws(self, arm: str, model: str = EDITED) -> list[int]:
        """Numbers of the arm's controls."""
        return sorted(draw for name, draw, m, d in self._groups if (name, m, d) == (arm, model, SAMPLED) and draw > 0)

    def outcomes(
        self,
        arm: str,
        draw: int = 0,
        model: str = EDITED,
        decoding: str = SAMPLED,
        numbers: Sequence[int] | None = None,
    ) -> Outcomes:
        """Outcomes of one run, on the problems with these numbers where they are given.

        Raises:
            InterpError: there is no such run, or it lacks one of the problems.
        """
        rows = self.rows(arm, draw, model, decoding)
        if numbers is not None and rows["number"].to_list() != list(numbers):
            rows = rows.filter(pl.col("number").is_in(list(numbers)))
            if len(rows) != len(numbers):
                raise InterpError(
                    f"runs: {arm!r} of {model} lacks {len(numbers) - len(rows)} of {len(numbers)} problems"
                )
        return Outcomes(
            {
                o: (rows[f"{o}_top"].to_numpy().astype(float), rows[f"{o}_bottom"].to_numpy().astype(float))
                for o in OUTCOMES
            }
        )

    def numbers(self, arm: str, draw: int = 0, model: str = EDITED) -> list[int]:
        """Numbers of the problems of a run."""
        return self.rows(arm, draw, model)["number"].to_list()

    def fired(self, arm: str, draw: int = 0, model: str = EDITED) -> np.ndarray:
        """How often the edit changed each row."""
        return self.rows(arm, draw, model)["fired"].to_numpy()

    def ids(self, arm: str, draw: int = 0, model: str = EDITED, decoding: str = SAMPLED) -> dict[int, list[int]]:
        """Token ids of each problem's prompt and completion, by its number."""
        rows = self.rows(arm, draw, model, decoding)
        texts = zip(rows["prompt_ids"].to_list(), rows["completion_ids"].to_list(), strict=True)
        return {number: prompt + written for number, (prompt, written) in zip(rows["number"], texts, strict=True)}

    def texts(self, arm: str, draw: int = 0, model: str = EDITED) -> list[str]:
        """What the model wrote."""
        return self.rows(arm, draw, model)["text"].to_list()

    def by(self, column: str, outcome: str = "accuracy") -> pl.DataFrame:
        """Each run's outcome by `difficulty` or another column of the table."""
        parts = (pl.col(f"{outcome}_{part}").sum() for part in ("top", "bottom"))
        top, bottom = parts
        grouped = self.table.group_by(*KEYS, column, maintain_order=True)
        return grouped.agg((top / bottom).alias(outcome), pl.len().alias("problems"))


def write_part(path: Path, rows: pl.DataFrame) -> None:
    """Write one run; the file is complete or absent."""
    with replacing(path, ".parquet") as draft:
        rows.write_parquet(draft)


def read_part(path: Path, rows: int, schema: Mapping[str, Any] = SCHEMA) -> pl.DataFrame | None:
    """A run that an earlier process finished, None where there is none or it is damaged."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return table if len(table) == rows and table.schema == pl.Schema(schema) else None


def write_index(folder: Path, arms: Mapping[str, Mapping[str, Any]], parts: Sequence[str]) -> None:
    """Write which arms a folder's table is of, and which of its files make up the table."""
    with replacing(folder / INDEX, ".json") as draft:
        draft.write_text(json.dumps({"arms": arms, "parts": list(parts)}, indent=1))


def read_runs(folder: Path) -> Runs:
    """The runs in a folder.

    Raises:
        InterpError: none are there, or a file is damaged.
    """
    return Runs(*read_parts(folder))


def read_parts(folder: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table of a folder of parts, and the arms in its index.

    Raises:
        InterpError: none are there, or a file is damaged.
    """
    if not (folder / INDEX).is_file():
        raise InterpError(
            f"{folder}: no runs; give the folder `causal/runs` of a study, or one that `interp.run` wrote"
        )
    try:
        index = json.loads((folder / INDEX).read_text())
        table = pl.concat([pl.read_parquet(folder / f"{part}.parquet", glob=False) for part in index["parts"]])
        return table, dict(index["arms"])
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise InterpError(f"{folder}: runs cannot be read ({one_line(error)}); run them again") from error
