"""What the report reads: the stage folders of one study, checked and brought to one schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from interp.errors import InterpError, one_line
from interp.names import COMPARED, MODELS, STAGE_NAMES
from interp.report.numbers import real
from interp.report.schemas import (
    BASELINES,
    EFFECTS,
    EVIDENCE,
    EXAMPLES,
    HEADS,
    LATENTS,
    NOTICED,
    NULLS,
    PATH,
    READOUT,
    RECURRENCE,
    SITES,
    SUMMARY,
    TRACES,
    TRAINING,
    Schema,
)

READ = STAGE_NAMES[:-1]
"""The stages whose folders the report reads: all before it."""


@dataclass(frozen=True)
class Study:
    """Everything the page shows. Tables hold every column of their schema; a column that was not on disk is null."""

    models: tuple[str, ...]
    """Those present, in the order of `MODELS`."""
    checkpoints: dict[str, dict[str, Any]]
    training: pl.DataFrame
    moved: dict[str, Any]
    """Each compared model's mean distance of residuals from the base's."""
    traces: pl.DataFrame
    summary: pl.DataFrame
    noticed: pl.DataFrame
    """What each model does after an injected error, and after the untouched step."""
    sites: pl.DataFrame
    """Where the decision can be read, one row per model, contrast and site."""
    site: dict[str, Any]
    """The site at which residuals are read, and why."""
    circuit: dict[str, Any]
    """The latents of the decision, or why there are none, by class."""
    evidence: pl.DataFrame
    """What carries the decision, teacher-forced: one row per intervention and kind of control."""
    path: pl.DataFrame
    """What each head, MLP and the embedding adds to the decision at its site."""
    heads: pl.DataFrame
    """Attention of the heads among them that add most, in one example of each side."""
    recurrence: pl.DataFrame
    """The latents' partners in dictionaries of other seeds."""
    readout: pl.DataFrame
    """What the latents of the decision read in each model alone."""
    nulls: pl.DataFrame
    """Latents that are claimed between models of which none, or every, latent is exclusive."""
    baselines: pl.DataFrame
    """What a latent of a behaviour is compared with."""
    metrics: pl.DataFrame
    """The crosscoder's training record, one row per logged step."""
    evaluation: dict[str, Any]
    latents: pl.DataFrame
    examples: pl.DataFrame
    effects: pl.DataFrame
    verdict: dict[str, Any]
    manifests: dict[str, dict[str, Any]]
    missing: tuple[str, ...]
    """What was not on disk, a sentence each."""

    @property
    def compared(self) -> tuple[str, ...]:
        """The models of the crosscoder, as far as they are present: no others have activations."""
        return tuple(model for model in self.models if model in COMPARED)

    @property
    def temperature(self) -> float | None:
        """Sampling temperature of the rollouts, from the manifest of the stage `traces`."""
        config = self.manifests.get("traces", {}).get("config") or {}
        return real((config.get("traces") or {}).get("temperature"))


class Reader:
    """Reads a study's files and remembers what was not there."""

    def __init__(self, root: Path):
        self.root = root
        self.missing: list[str] = []

    def required(self, name: str) -> Path:
        """The path of a file that the report cannot do without.

        Raises:
            InterpError: it is not there.
        """
        path = self.root / name
        if not path.is_file():
            stage = name.split("/")[0]
            raise InterpError(f"report: {path} is missing; run `interp {stage} CONFIG` first, or give its study folder")
        return path

    def table(self, name: str, schema: Schema, optional: bool = False) -> pl.DataFrame:
        """A Parquet file brought to `schema`; absent columns are null, an absent optional file has no rows."""
        if optional and not (self.root / name).is_file():
            self.missing.append(f"{name} is absent.")
            return pl.DataFrame(schema=schema)
        path = self.required(name)
        try:
            return self._conform(pl.read_parquet(path, glob=False), name, schema)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _damaged(path, error) from error

    def _conform(self, table: pl.DataFrame, name: str, schema: Schema) -> pl.DataFrame:
        absent = [column for column in schema if column not in table.columns]
        if absent:
            self.missing.append(f"{name} has no column {', '.join(absent)}.")
        table = table.with_columns(pl.lit(None).alias(column) for column in absent)
        return table.with_columns(pl.col(column).cast(dtype, strict=False) for column, dtype in schema.items())

    def record(self, name: str, optional: bool = False) -> dict[str, Any]:
        """A JSON object; an absent optional file is an empty one."""
        if optional and not (self.root / name).is_file():
            self.missing.append(f"{name} is absent.")
            return {}
        path = self.required(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise _damaged(path, error) from error
        if not isinstance(value, dict):
            raise _damaged(path, TypeError("not a JSON object"))
        return value

    def lines(self, name: str) -> pl.DataFrame:
        """A JSON-lines file, which may be absent."""
        path = self.root / name
        if not path.is_file() or path.stat().st_size == 0:
            self.missing.append(f"{name} is absent or empty.")
            return pl.DataFrame()
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return pl.DataFrame(rows, infer_schema_length=None, strict=False)
        except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
            raise _damaged(path, error) from error

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Each stage's manifest, where it has one."""
        found: dict[str, dict[str, Any]] = {}
        for stage in READ:
            if (self.root / stage / "manifest.json").is_file():
                found[stage] = self.record(f"{stage}/manifest.json")
            else:
                self.missing.append(f"{stage}/manifest.json is absent.")
        return found


def _damaged(path: Path, error: Exception) -> InterpError:
    reason = one_line(error)
    stage = path.parent.name
    return InterpError(
        f"report: {path} cannot be read ({reason}); run `interp {stage} CONFIG --force` to write it anew"
    )


def _present(checkpoints: Mapping[str, Any], summary: pl.DataFrame, traces: pl.DataFrame) -> tuple[str, ...]:
    named = {*checkpoints, *summary["model"].to_list(), *traces["model"].to_list()}
    return tuple(model for model in MODELS if model in named)


def read_study(root: Path) -> Study:
    """Read the stage folders under `root`.

    Raises:
        InterpError: a required file is missing, or a file cannot be read.
    """
    reader = Reader(root)
    checkpoints = reader.record("checkpoints/models.json")
    traces, summary = reader.table("traces/traces.parquet", TRACES), reader.table("traces/summary.parquet", SUMMARY)
    return Study(
        models=_present(checkpoints, summary, traces),
        checkpoints=checkpoints,
        training=reader.table("checkpoints/training.parquet", TRAINING, optional=True),
        moved=reader.record("activations/moved.json", optional=True),
        traces=traces,
        summary=summary,
        noticed=reader.table("sites/noticed.parquet", NOTICED, optional=True),
        sites=reader.table("sites/sites.parquet", SITES, optional=True),
        site=reader.record("sites/site.json", optional=True),
        circuit=reader.record("features/circuit.json", optional=True),
        evidence=reader.table("features/evidence.parquet", EVIDENCE, optional=True),
        path=reader.table("features/path.parquet", PATH, optional=True),
        heads=reader.table("features/heads.parquet", HEADS, optional=True),
        recurrence=reader.table("features/recurrence.parquet", RECURRENCE, optional=True),
        readout=reader.table("features/readout.parquet", READOUT, optional=True),
        nulls=reader.table("crosscoder/nulls.parquet", NULLS, optional=True),
        baselines=reader.table("features/baselines.parquet", BASELINES, optional=True),
        metrics=reader.lines("crosscoder/metrics.jsonl"),
        evaluation=reader.record("crosscoder/evaluation.json"),
        latents=reader.table("features/latents.parquet", LATENTS),
        examples=reader.table("features/examples.parquet", EXAMPLES, optional=True),
        effects=reader.table("causal/effects.parquet", EFFECTS),
        verdict=reader.record("causal/verdict.json"),
        manifests=reader.manifests(),
        missing=tuple(reader.missing),
    )
