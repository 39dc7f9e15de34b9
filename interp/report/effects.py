"""The causal stage's effects as rows of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.report.inputs import Study
from interp.report.numbers import Estimate, Shown, metric, number, p_text, real, show
from interp.report.palette import MODEL_LABELS

FAMILIES = {
    "style": ("Style removed, function kept", "Every token that spells a marker is forbidden while decoding."),
    "function": (
        "Function removed, style kept",
        "Every recomputation repeats the earlier result; for prose, latents are ablated.",
    ),
    "both": ("Both removed", "Style and function together."),
    "latents": ("Latent edits", "Latents ablated or amplified, the crosscoder's error kept; and the dictionary alone."),
    "steering": ("Steering", "A direction added, in multiples of the mean residual norm."),
    "patching": ("Activation patching", "One site of one layer, between a clean and a corrupt run of the same trace."),
}
ROWS_SHOWN = 400
"""Of one family, in its table."""


@dataclass(frozen=True)
class EffectRow:
    """One arm and outcome."""

    arm: str
    model: str
    where: str
    outcome: str
    unit: str
    untouched: str
    effect: Shown
    control: Shown
    control_name: str
    draws: str
    p: str
    p_holm: str
    p_sort: str
    problems: str
    coherent: bool
    outside: bool
    """Whether the effect's interval and the controls' band do not meet."""
    note: str


@dataclass(frozen=True)
class Family:
    """One table of effects."""

    name: str
    title: str
    about: str
    rows: list[EffectRow]
    total: int
    placed: bool
    """Whether any row has a site, a layer or a dose."""


def families(study: Study) -> list[Family]:
    """The tables, in the order of `FAMILIES`; unknown families come last under their own name."""
    names = study.effects["family"].drop_nulls().unique(maintain_order=True).to_list()
    order = [n for n in FAMILIES if n in names] + [n for n in names if n not in FAMILIES]
    found = []
    for name in order:
        rows = study.effects.filter(pl.col("family") == name)
        title, about = FAMILIES.get(name, (name, ""))
        shown = [_row(r) for r in rows.head(ROWS_SHOWN).iter_rows(named=True)]
        found.append(Family(name, title, about, shown, rows.height, any(r.where for r in shown)))
    return found


def unpatched(study: Study) -> str:
    """Why there is no figure of patching, in a sentence."""
    rows = study.effects.filter(pl.col("family") == "patching", pl.col("outcome") == "restored")
    if not rows.height:
        return "No place was patched."
    why = rows["note"].drop_nulls().filter(rows["note"].drop_nulls() != "").unique(maintain_order=True).to_list()
    return (
        f"{rows.height} patches of {rows['n_problems'].max()} pairs restore no share that can be given: "
        f"{'; '.join(why) or 'no reason was given'}. The markers make no measurable difference to what follows them."
    )


def where(row: dict[str, Any]) -> str:
    """Site, layer and dose, as far as an arm has them."""
    layer, dose = row["layer"], real(row["dose"])
    parts = [
        row["site"] or "",
        f"L{layer}" if layer is not None else "",
        f"× {dose:g}".replace("-", "−") if dose is not None else "",
    ]
    return " ".join(part for part in parts if part)


def _row(row: dict[str, Any]) -> EffectRow:
    kind = metric(row["outcome"] or "")
    is_level = row["outcome"] == "restored"  # a value between 0 and 1, not a change
    e, c = effect_of(row), control_of(row)
    return EffectRow(
        arm=row["arm"] or "",
        model=MODEL_LABELS.get(row["model"] or "", row["model"] or ""),
        where=where(row),
        outcome=kind.label,
        unit=kind.change,
        untouched=number(None if is_level or row["untouched"] is None else kind.scale * row["untouched"], kind.digits),
        effect=show(e, kind, signed=not is_level),
        control=show(c, kind, signed=not is_level),
        control_name=row["control_name"] or "none",
        draws=f"{row['n_controls']} draws" if row["n_controls"] else "",
        p=p_text(row["p"]),
        p_holm=p_text(row["p_holm"]),
        p_sort="" if row["p_holm"] is None else f"{row['p_holm']:.6g}",
        problems=number(row["n_problems"], 0),
        coherent=row["coherent"] is not False,
        outside=apart(e, c),
        note=row["note"] or "",
    )


def effect_of(row: dict[str, Any]) -> Estimate:
    """The effect with its interval."""
    value, low, high = (real(row[key]) for key in ("estimate", "low", "high"))
    return Estimate(value, low, high, "" if value is not None else "not measured")


def control_of(row: dict[str, Any]) -> Estimate:
    """The controls' mean with their 2.5 and 97.5 percentiles."""
    mean, low, high = (real(row[f"control_{key}"]) for key in ("mean", "low", "high"))
    return Estimate(mean, low, high)


def apart(e: Estimate, c: Estimate) -> bool:
    """Whether an interval and a band share no point; False where either is missing."""
    if e.low is None or e.high is None or c.low is None or c.high is None:
        return False
    return e.low > c.high or e.high < c.low
