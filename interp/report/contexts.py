"""The strongest contexts of a latent, one column a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from interp.report.inputs import Study
from interp.report.numbers import number
from interp.report.palette import MODEL_LABELS
from interp.report.text import Token, context

CONTEXTS = 10
"""Shown of each model."""


@dataclass(frozen=True)
class Context:
    """One stretch of a rollout around the place where the latent fires hardest."""

    rank: int
    problem: str
    value: str
    tokens: list[Token]


@dataclass(frozen=True)
class Column:
    """A model's contexts, strongest first."""

    model: str
    label: str
    contexts: list[Context]


def by_latent(study: Study) -> dict[int, pl.DataFrame]:
    """The examples' table cut by latent, so that a page reads its own rows only."""
    parts = study.examples.drop_nulls(["latent", "model"]).partition_by("latent", as_dict=True)
    return {int(key[0]): part for key, part in parts.items()}


def columns(examples: pl.DataFrame | None, models: Sequence[str]) -> list[Column]:
    """Contexts side by side. All are shaded against the strongest activation among them."""
    if examples is None or not examples.height:
        return []
    strongest = max((a for row in examples["activations"] for a in (row if row is not None else []) if a), default=0.0)
    return [Column(m, MODEL_LABELS[m], _contexts(examples.filter(pl.col("model") == m), strongest)) for m in models]


def _contexts(rows: pl.DataFrame, strongest: float) -> list[Context]:
    shown = []
    for row in rows.sort("rank").head(CONTEXTS).iter_rows(named=True):
        tokens, activations = row["tokens"] or [], row["activations"] or []
        peak = row["peak"] if row["peak"] is not None else -1
        value = activations[peak] if 0 <= peak < len(activations) else None
        shown.append(
            Context(row["rank"], row["problem"] or "", number(value), context(tokens, activations, peak, strongest))
        )
    return shown
