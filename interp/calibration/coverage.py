"""Do the 95 % intervals hold the exact values? One organism's edits, run again and again on other problems.

A replicate is what the stage `causal` would have measured, had it been given other problems, other noise and other
draws of controls. The exact value is the mean over all the other replicates, from many times the problems of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from interp.causal.arms import FUNCTION, STYLE, Arm
from interp.causal.circuit_arms import AT_FORKS, evidence_name
from interp.causal.effects import effects
from interp.causal.reading import gain_over, mediated_fraction, read
from interp.causal.run import run as run_arms
from interp.causal.runs import Runs
from interp.causal.setting import SAMPLED, Setting
from interp.causal.study_arms import Sizes, text_arms
from interp.config import StudyConfig
from interp.features.circuit import DECIDING
from interp.models.trio import open_trio, pick_device
from interp.names import EDITED
from interp.stages.activation_arms import activation_arms
from interp.stages.causal import JUDGED, setting_of
from interp.stages.problems import task_of
from interp.stages.traces import checkpoint_paths
from interp.statistics import Interval, bootstraps
from interp.study import Study
from interp.tasks.base import Problem

SCHEMA = {
    "replicate": pl.Int64,
    "quantity": pl.String,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns of the replicates' table; estimate and interval are null where the quantity is refused."""


@dataclass(frozen=True)
class Held:
    """How often the intervals of one quantity hold its exact value."""

    quantity: str
    exact: float
    """Mean of the estimates of all replicates."""
    error: float
    """Its standard error."""
    held: int
    """Intervals that hold the mean of the other replicates' estimates."""
    of: int


def other_problems(study: Study, replicates: int) -> list[list[Problem]]:
    """As many held-out problems for every replicate as the study's own edits have; none is the study's, and none is in
    two replicates.

    Raises:
        InterpError: the task has too few.
    """
    config = study.config
    n = min(config.causal.problems, config.traces.problems)
    task = task_of(config)
    mine = {p.id for p in task.problems(config.traces.problems, config.seed, "test")}
    drawn = task.problems(n * replicates + len(mine), config.seed + 1, "test")
    others = [p for p in drawn if p.id not in mine]
    return [others[i * n : (i + 1) * n] for i in range(replicates)]


def replicate(study: Study, problems: Sequence[Problem], number: int, scratch: Path) -> pl.DataFrame:
    """One replicate's estimates and intervals, one row a quantity; finished runs are kept in `scratch`."""
    raw = study.config.model_dump(mode="json")
    config = StudyConfig.model_validate(raw | {"seed": 1000 * (number + 1) + study.config.seed})
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    setting = setting_of(config, trio, device, list(problems))
    scratch.mkdir(parents=True, exist_ok=True)
    arms = [*_removals(study, setting, config), *_evidence(study, trio, device, scratch)]
    runs = run_arms(setting, arms, scratch / "runs", untouched=[EDITED, "base"])
    found = dict(quantities(runs, config))
    rows = [
        {"replicate": number, "quantity": name}
        | ({} if interval is None else {"estimate": interval.estimate, "low": interval.low, "high": interval.high})
        for name, interval in found.items()
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _removals(study: Study, setting: Setting, config: StudyConfig) -> Iterator[Arm]:
    """The arms that the study's verdict by text read style and function from, with new draws of controls."""
    written = json.loads((study.folder("causal") / "verdict.json").read_text())
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", glob=False).filter(model=EDITED)
    arms = text_arms(
        setting.lexicon,
        setting.vocabularies[EDITED],
        tuple(name for name in JUDGED if name in setting.models),
        traces["text"].to_list(),
        traces["prompt"].to_list(),
        [word["word"] for word in written["unlisted"]],
        0,
        Sizes(config.causal.controls, config.causal.control_problems, config.seed),
    )
    read_from = {written["read_from"].get(claim) for claim in (STYLE, FUNCTION)}
    return (arm for arm in arms if arm.name in read_from)


def _evidence(study: Study, trio: Any, device: Any, scratch: Path) -> Iterator[Arm]:
    """The deciding latents set back at forks, without controls; nothing where none is located."""
    name = evidence_name(DECIDING, AT_FORKS)
    for arm in activation_arms(study, trio, device, scratch):
        if arm.name == name:
            yield replace(arm, controls=(), control_name="none", problems=None, first=0)


def quantities(runs: Runs, config: StudyConfig) -> Iterator[tuple[str, Interval | None]]:
    """(name, interval) of what the verdict and the report say in numbers; None where it is refused."""
    causal, bootstrap = config.causal, bootstraps(config.causal.resamples, config.seed)
    gain = gain_over(runs, "base", bootstrap)
    yield "gain", gain
    readings = {}
    for name, about in runs.arms.items():
        if about["claim"] not in (STYLE, FUNCTION):
            continue
        found = read(runs, name, causal.bound, bootstrap, ())
        what = "style" if about["claim"] == STYLE else "function"
        yield f"loss, {what}", found.own
        yield f"loss of the gain, {what}", found.net
        if found.beyond is not None:
            yield f"loss beyond controls, {what}", found.beyond
        readings[name] = found
    fraction = mediated_fraction(runs, readings, gain, causal.bound, bootstrap)
    yield "mediated fraction", fraction if isinstance(fraction, Interval) else None
    for row in effects(runs, resamples=causal.resamples, seed=config.seed):
        about = row["arm"], row["outcome"], row["decoding"]
        if about == (evidence_name(DECIDING, AT_FORKS), "verification_rate", SAMPLED):
            yield "change of repairs", _interval(row)


def _interval(row: Mapping[str, Any]) -> Interval | None:
    return None if row["estimate"] is None else Interval(row["estimate"], row["low"], row["high"])


def coverage(replicates: pl.DataFrame) -> list[Held]:
    """How often each quantity's intervals hold the exact value, of the replicates that have it. An interval is compared
    with the mean of the other replicates, of which its own estimate is no part; of R replicates that mean has a noise
    of its own, which lowers the share that a right interval reaches from .95 to that of ±1.96 / sqrt(1 + 1 / (R - 1))
    standard errors: .946 at 20."""
    return [_held(name, rows) for (name,), rows in replicates.drop_nulls().group_by("quantity", maintain_order=True)]


def _held(name: str, rows: pl.DataFrame) -> Held:
    estimates, low, high = (rows[column].to_numpy() for column in ("estimate", "low", "high"))
    n = len(estimates)
    if n < 2:
        return Held(name, float(estimates.mean()), float("nan"), 0, 0)
    others = (estimates.sum() - estimates) / (n - 1)
    held = int(((low <= others) & (others <= high)).sum())
    return Held(name, float(estimates.mean()), float(estimates.std(ddof=1) / np.sqrt(n)), held, n)


def replicated(study: Study, numbers: Iterable[int], out: Path) -> pl.DataFrame:
    """The replicates with these numbers, each kept in `out` once it is done."""
    numbers = list(numbers)
    problems = other_problems(study, max(numbers) + 1)
    tables = []
    for number in numbers:
        kept = out / f"replicate_{number}.parquet"
        if not kept.is_file():
            replicate(study, problems[number], number, out / f"runs_{number}").write_parquet(kept)
        tables.append(pl.read_parquet(kept, glob=False))
    return pl.concat(tables)
