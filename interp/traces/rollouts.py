"""Rollouts: one completion, the table of all, and sums by problem, the unit of every interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from interp.errors import InterpError, one_line

COLUMNS = ("problem", "model", "text", "n_tokens")

BySum = dict[str, dict[str, Float[np.ndarray, " n"]]]
"""Model to name to one sum per problem."""


@dataclass(frozen=True)
class Rollout:
    """One completion."""

    prompt_ids: list[int]
    completion_ids: list[int]
    """Without the end token."""
    text: str
    finished: bool
    """Whether the model wrote an end token within the limit."""


def read_rollouts(path: Path) -> pl.DataFrame:
    """The rollouts that the stage `traces` wrote, or any Parquet file with the columns COLUMNS: one row per rollout.

    Raises:
        InterpError: the file is missing, not Parquet, empty, or lacks a column.
    """
    if not path.is_file():
        raise InterpError(f"{path}: no such file; give the folder of a study whose stage `traces` is done")
    try:
        rollouts = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InterpError(f"{path}: not a Parquet file ({one_line(error)}); write it again") from error
    missing = [column for column in COLUMNS if column not in rollouts.columns]
    if missing or not len(rollouts):
        what = f"no column {', '.join(missing)}" if missing else "no rollouts"
        raise InterpError(f"{path}: {what}; it needs rows with {', '.join(COLUMNS)}")
    return rollouts


def per_problem(rollouts: pl.DataFrame, values: Mapping[str, Sequence[float] | np.ndarray]) -> BySum:
    """Sums over each problem's rollouts of every named value (one per rollout), for each model. Problems are in the
    order of their first row, the same for all models, so that differences are paired.

    Raises:
        InterpError: a model lacks a problem that another answered.
    """
    place = {problem: i for i, problem in enumerate(rollouts["problem"].unique(maintain_order=True))}
    at, of = np.array([place[p] for p in rollouts["problem"]]), rollouts["model"].to_numpy()
    sums = {}
    for model in rollouts["model"].unique(maintain_order=True):
        mine = of == model
        if len(np.unique(at[mine])) < len(place):
            lost = next(problem for problem, i in place.items() if i not in at[mine])
            raise InterpError(
                f"rollouts: model {model!r} has none of problem {lost!r}; every model needs the same ones"
            )
        sums[model] = {
            name: np.bincount(at[mine], np.asarray(value, dtype=np.float64)[mine], minlength=len(place))
            for name, value in values.items()
        }
    return sums
