"""The outcomes of each model, from the traces stage, or from the verdict where that has no row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from interp.names import OUTCOMES
from interp.report.inputs import Study
from interp.report.numbers import METRICS, Estimate, Metric, Shown, number, read_estimate, real, show
from interp.report.palette import MODEL_LABELS

COLUMNS = ("accuracy", "accuracy_greedy", *OUTCOMES[1:])


def estimates(study: Study) -> dict[str, dict[str, Estimate]]:
    """Model to metric to estimate, for every model present and every column of the table."""
    found: dict[str, dict[str, Estimate]] = {}
    in_verdict = study.verdict.get("models") or {}
    for model in study.models:
        raw = in_verdict.get(model) or {}
        found[model] = {name: read_estimate(raw.get(name)) for name in COLUMNS}
    for row in study.summary.iter_rows(named=True):
        if row["model"] in found and row["metric"] in COLUMNS:
            found[row["model"]][row["metric"]] = _from_row(row)
    return found


def _from_row(row: dict) -> Estimate:
    value, low, high = (real(row[key]) for key in ("estimate", "low", "high"))
    return Estimate(value, low, high, "" if value is not None else row["refused"] or "not measured")


@dataclass(frozen=True)
class ModelRow:
    """One model of the table."""

    name: str
    label: str
    cells: list[Shown]
    parameters: str
    distance: str
    moved: str
    path: str


def model_rows(study: Study) -> Iterator[ModelRow]:
    """The models' table, in the fixed order."""
    found = estimates(study)
    for model in study.models:
        about = study.checkpoints.get(model) or {}
        yield ModelRow(
            name=model,
            label=MODEL_LABELS[model],
            cells=[show(found[model][name], METRICS[name]) for name in COLUMNS],
            parameters=number(about.get("parameters"), 0),
            distance=number(about.get("distance_from_base"), 3),
            moved=number(study.moved.get(model), 3),
            path=str(about.get("path") or ""),
        )


def columns() -> list[Metric]:
    """The table's metrics."""
    return [METRICS[name] for name in COLUMNS]
