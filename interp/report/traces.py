"""Sample traces: every model on the same problem, with what was marked in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.report.inputs import Study
from interp.report.palette import MODEL_LABELS
from interp.report.text import TRACE_CHARACTERS, Piece, pieces


@dataclass(frozen=True)
class Trace:
    """One model's completion."""

    model: str
    label: str
    pieces: list[Piece]
    outcome: str
    correct: bool
    facts: str
    cut: int
    """Characters not shown."""


@dataclass(frozen=True)
class Sample:
    """One problem."""

    prompt: str
    why: str
    traces: list[Trace]


RULES = (
    ("the distilled model is right and the base is wrong", {"distilled": True, "base": False}),
    ("the distilled model is wrong", {"distilled": False}),
    ("the base and the distilled model are both right", {"distilled": True, "base": True}),
)


def samples(study: Study) -> list[Sample]:
    """For each rule the problem with the most labelled spans in the distilled trace (first in the file on ties),
    among those that the most models answered."""
    first = study.traces.unique(["problem", "model"], keep="first", maintain_order=True)
    first = first.filter(pl.col("model").is_in(study.models), pl.col("problem").is_not_null())
    rows: dict[str, dict[str, Any]] = {}
    for row in first.select("problem", "model", "correct", _spans()).iter_rows(named=True):
        rows.setdefault(row["problem"], {})[row["model"]] = row
    chosen: dict[str, str] = {}
    for why, wanted in RULES:
        fitting = [p for p, by in rows.items() if p not in chosen and _fits(by, wanted)]
        if fitting:
            chosen[max(fitting, key=lambda p: (len(rows[p]), _labelled(rows[p])))] = why
    if not chosen and rows:
        chosen[next(iter(rows))] = "the first problem; no problem fits the rules of choice"
    return [_sample(first.filter(pl.col("problem") == p), why, study.models) for p, why in chosen.items()]


def _spans() -> pl.Expr:
    markers, behaviours = (pl.col(f"{kind}_spans").list.len().fill_null(0) for kind in ("marker", "behaviour"))
    return (markers + 2 * behaviours).alias("spans")


def _fits(by_model: dict[str, Any], wanted: dict[str, bool]) -> bool:
    return all(m in by_model and by_model[m]["correct"] is right for m, right in wanted.items())


def _labelled(by_model: dict[str, Any]) -> int:
    return by_model.get("distilled", {}).get("spans", 0)


def _sample(rows: pl.DataFrame, why: str, models: Sequence[str]) -> Sample:
    by_model = {row["model"]: row for row in rows.iter_rows(named=True)}
    prompt = next(iter(by_model.values()))["prompt"] or ""
    return Sample(prompt, why, [_trace(by_model[m]) for m in models if m in by_model])


def _trace(row: dict[str, Any]) -> Trace:
    text = row["text"] or ""
    answer = "no answer" if row["answer"] is None else f"answer {row['answer']}"
    facts = [f"{row['n_tokens']} tokens"] if row["n_tokens"] is not None else []
    facts += [] if row["finished"] is not False else ["cut off at the limit"]
    return Trace(
        model=row["model"],
        label=MODEL_LABELS[row["model"]],
        pieces=pieces(text, row["marker_spans"] or [], row["behaviour_spans"] or []),
        outcome=f"{'right' if row['correct'] else 'wrong' if row['correct'] is False else 'not graded'}, {answer}",
        correct=bool(row["correct"]),
        facts=", ".join(facts),
        cut=max(0, len(text) - TRACE_CHARACTERS),
    )
