"""The latents that the page lists, their order, and the numbers shown of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.names import BEHAVIOURS, LATENT_KINDS
from interp.report.circuit import claimed
from interp.report.inputs import Study
from interp.report.numbers import number, p_text, real
from interp.report.palette import MODEL_LABELS

LISTED = 200
"""Latents on the page and its dashboards, at most."""
NU_ERROR_MAX = 0.2
NU_RECON_MAX = 0.5
"""The claim "specific" needs both below (Minder, Dumas et al. 2025)."""


@dataclass(frozen=True)
class Rate:
    """How much a latent fires on one model's own rollouts."""

    model: str
    label: str
    rate: str
    mean: str
    share: float
    """Of the largest rate among the models: the length of the bar, in percent."""


@dataclass(frozen=True)
class Latent:
    """One row of the list and the head of one dashboard page. `raw` holds the numbers to sort by."""

    id: int
    kind: str
    why: str
    owner: str
    raw: dict[str, Any]
    rates: list[Rate]
    shift: str
    """Firing rate on distilled rollouts over base rollouts."""

    def text(self, column: str, digits: int = 2) -> str:
        return number(real(self.raw.get(column)), digits)

    def percent(self, column: str) -> str:
        """A share as a percentage, without its sign."""
        share = real(self.raw.get(column))
        return number(None if share is None else 100 * share, 2)

    def p(self, column: str) -> str:
        return p_text(real(self.raw.get(column)))

    def confirmed(self) -> list[str]:
        """The behaviours that this latent is confirmed for."""
        return [b for b in BEHAVIOURS if self.raw.get(f"confirmed_{b}")]


def most_specific(rows: pl.DataFrame, models: Sequence[str]) -> pl.Series:
    """For each latent the model of its largest decoder norm; null where no specificity was measured."""
    columns = [f"specificity_{m}" for m in models if f"specificity_{m}" in rows.columns]
    if not columns:
        return pl.Series("owner", [None] * rows.height, dtype=pl.String)
    values = rows.select(pl.concat_list(pl.col(c).cast(pl.Float64).fill_null(-1.0) for c in columns).alias("all"))
    names = pl.Series([c.removeprefix("specificity_") for c in columns])
    best = values["all"].list.arg_max()
    return names.gather(best.cast(pl.UInt32)).alias("owner")


def listed(study: Study) -> list[Latent]:
    """Latents of the decision first, then confirmed ones (highest AUROC on the confirming half), then exclusive ones
    (smallest ν of the error), then the most frequent; `LISTED` at most. Only those with contexts, where the study kept
    any."""
    confirmed = pl.any_horizontal(pl.col(f"confirmed_{b}").fill_null(False) for b in BEHAVIOURS)
    best = pl.max_horizontal(
        pl.when(pl.col(f"confirmed_{b}").fill_null(False)).then(pl.col(f"auroc_confirm_{b}")) for b in BEHAVIOURS
    )
    exclusive = pl.col("exclusive_to").is_not_null()
    order = claimed(study)
    decides = pl.col("latent").is_in(order)
    group = pl.when(decides).then(0).when(confirmed).then(1).when(exclusive).then(2).otherwise(3)
    within = (
        pl.when(decides)
        .then(pl.col("latent").replace_strict(order, range(len(order)), default=None, return_dtype=pl.Float64))
        .when(confirmed)
        .then(-best)
        .when(exclusive)
        .then(pl.col("nu_error_max"))
        .otherwise(-pl.col("firing_rate"))
    )
    latents = study.latents
    if study.examples.height:
        latents = latents.filter(pl.col("latent").is_in(study.examples["latent"].drop_nulls().unique().implode()))
    rows = latents.with_columns(most_specific(latents, study.compared), group.alias("group"))
    rows = rows.with_columns(within.fill_nan(None).alias("within")).sort("group", "within", "latent", nulls_last=True)
    why = ("decides", "confirmed", "exclusive", "frequent")
    return [_latent(row, why[row["group"]], study.compared) for row in rows.head(LISTED).iter_rows(named=True)]


def _latent(row: dict[str, Any], why: str, models: Sequence[str]) -> Latent:
    rates = {m: real(row.get(f"rate_{m}")) for m in models}
    largest = max((r for r in rates.values() if r), default=0.0)
    before, after = rates.get("base"), rates.get("distilled")
    row["shift"] = after / before if before and after is not None else None
    return Latent(
        id=row["latent"],
        kind=row["kind"] or "",
        why=why,
        owner=row["owner"] or "",
        raw=row,
        rates=[
            Rate(m, MODEL_LABELS[m], number(r, 4), number(row.get(f"mean_{m}"), 3), 100 * (r or 0) / (largest or 1))
            for m, r in rates.items()
        ],
        shift=f"× {row['shift']:,.2f}" if row["shift"] is not None else "–",
    )


def counts(study: Study) -> dict[str, int]:
    """How many latents there are of each sort, over all, not only those listed."""
    rows = study.latents
    kinds = rows["kind"].fill_null("")
    return {
        "all": rows.height,
        "confirmed": rows.filter(pl.any_horizontal(pl.col(f"confirmed_{b}") for b in BEHAVIOURS)).height,
        **{kind.removesuffix(" latent"): int((kinds == kind).sum()) for kind in LATENT_KINDS},
        "exclusive": rows["exclusive_to"].drop_nulls().len(),
        "by_norm": rows["exclusive_by_norm"].drop_nulls().len(),
    }


def baselines(study: Study) -> list[list[str]]:
    """A head and a row for each behaviour: what marker counts, a linear probe and the best latent tell of it; empty
    where nothing was measured."""
    rows = []
    for b in BEHAVIOURS:
        mine = study.baselines.filter(pl.col("behaviour") == b)
        told = {r["what"]: r for r in mine.iter_rows(named=True)}
        if told:
            best = study.latents.filter(pl.col(f"confirmed_{b}").fill_null(False))[f"auroc_confirm_{b}"].max()
            values = [told.get(what, {}).get("auroc") for what in ("bag of markers", "linear probe")]
            held = next(iter(told.values()))["held_out"]
            rows.append([b, *(number(v, 3) for v in (*values, real(best))), number(held, 0)])
    head = ["Behaviour", "Bag of markers", "Linear probe", "Best confirmed latent", "Held-out rows"]
    return [head, *rows] if rows else []


def nulls(study: Study) -> list[list[str]]:
    """A head and a row for each pair of models: how many latents are claimed to be one's alone, and what is known of
    it; empty where none was trained."""
    rows = [
        [
            f"{r['first']} / {r['second']}",
            str(r["why"]),
            number(r["alive"], 0),
            number(r["by_norm"], 0),
            number(r["exclusive"], 0),
            number(r["fve"], 3),
        ]
        for r in study.nulls.iter_rows(named=True)
    ]
    head = ["Between", "Known", "Alive", "Exclusive by norm", "After Latent Scaling", "FVE"]
    return [head, *rows] if rows else []
