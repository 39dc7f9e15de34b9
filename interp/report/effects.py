"""The causal stage's effects as rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.names import EDITED
from interp.report.inputs import Study
from interp.report.numbers import ABSENT, Estimate, Shown, metric, number, p_text, real, show
from interp.report.palette import MODEL_LABELS

FAMILIES = {
    "style": ("Style removed, function kept", "Each marker becomes a neutral word, or may not be written."),
    "function": (
        "Function removed, style kept",
        "The result of a step worked again is forced to be the earlier one; or what an opening begins is cut off.",
    ),
    "both": ("Both removed", "Markers become neutral words, and steps worked again repeat the earlier result."),
    "circuit": (
        "Latents of the decision",
        "The latents that carry the decision to check set back where a check can begin, everywhere, and everywhere "
        "else; and the first ones alone.",
    ),
    "latents": (
        "Latent edits",
        "A behaviour's latents ablated or amplified, the crosscoder's error kept; and its reconstruction or its error "
        "alone.",
    ),
    "steering": ("Steering", "The behaviour's direction added, in multiples of the mean residual norm."),
    "patching": (
        "Activation patching",
        "One site of one layer, or one head, at the markers, between a clean and a corrupt run of the same trace.",
    ),
}
ROWS_SHOWN = 400
"""Of one family, in its table."""
SAMPLED, GREEDY = "sampled", "greedy"
PLACE = ("family", "arm", "site", "layer", "head", "dose")
"""What tells one arm from another."""


@dataclass(frozen=True)
class EffectRow:
    """One arm and outcome, of the edited model's sampled text."""

    arm: str
    where: str
    outcome: str
    unit: str
    untouched: str
    effect: Shown
    control: Shown
    others: list[Shown]
    """The effect under the other decoding and on the other models, in the order of `Family.others`."""
    control_name: str
    draws: str
    p: str
    p_holm: str
    p_sort: str
    problems: str
    fired: str
    coherent: bool
    """Whether the text is coherent and the arm passed its checks."""
    outside: bool
    """Whether the effect's interval and the controls' band do not meet."""
    note: str


@dataclass(frozen=True)
class Family:
    """One table of effects."""

    name: str
    title: str
    about: str
    others: list[str]
    """Headings of the columns of other decodings and other models."""
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
        everything = study.effects.filter(pl.col("family") == name)
        rows, runs = edited(everything), _other_runs(everything)
        beside = {(*_key(r), r["model"], r["decoding"]): r for r in everything.iter_rows(named=True)}
        title, about = FAMILIES.get(name, (name, ""))
        shown = [
            _row(r, [beside.get((*_key(r), *run)) for run in runs]) for r in rows.head(ROWS_SHOWN).iter_rows(named=True)
        ]
        others = [_heading(*run) for run in runs]
        found.append(Family(name, title, about, others, shown, rows.height, any(r.where for r in shown)))
    return found


def edited(effects: pl.DataFrame) -> pl.DataFrame:
    """The rows of the edited model's sampled text, and of given text (patching)."""
    mine, sampled = pl.col("model").fill_null(EDITED) == EDITED, pl.col("decoding").fill_null(SAMPLED) == SAMPLED
    return effects.filter(mine & sampled)


def _other_runs(rows: pl.DataFrame) -> list[tuple[str, str]]:
    """(model, decoding) of the rows that `edited` leaves out, the edited model's first."""
    there = rows.select("model", "decoding").drop_nulls().unique(maintain_order=True).rows()
    runs = [run for run in there if run != (EDITED, SAMPLED)]
    return sorted(runs, key=lambda run: run[0] != EDITED)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*(row[column] for column in PLACE), row["outcome"])


def _heading(model: str, decoding: str) -> str:
    parts = [MODEL_LABELS.get(model, model)] if model != EDITED else []
    shown = ", ".join([*parts, decoding] if decoding != SAMPLED else parts)
    return shown[:1].upper() + shown[1:]


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
    """Site, layer, head and dose, as far as an arm has them."""
    layer, dose = row["layer"], real(row["dose"])
    parts = [
        row["site"] or "",
        f"L{layer}" if layer is not None else "",
        f"head {row['head']}" if row["head"] is not None else "",
        f"× {dose:g}".replace("-", "−") if dose is not None else "",
    ]
    return " ".join(part for part in parts if part)


def _row(row: dict[str, Any], others: Sequence[dict[str, Any] | None] = ()) -> EffectRow:
    kind = metric(row["outcome"] or "")
    is_level = row["outcome"] == "restored"  # a value between 0 and 1, not a change
    e, c = effect_of(row), control_of(row)
    return EffectRow(
        arm=row["arm"] or "",
        where=where(row),
        outcome=kind.label,
        unit=kind.change,
        untouched=number(None if is_level or row["untouched"] is None else kind.scale * row["untouched"], kind.digits),
        effect=show(e, kind, signed=not is_level),
        control=show(c, kind, signed=not is_level),
        others=[Shown(ABSENT) if o is None else show(effect_of(o), kind, signed=not is_level) for o in others],
        control_name=row["control_name"] or "none",
        draws=f"{row['n_controls']} draws" if row["n_controls"] else "",
        p=p_text(row["p"]),
        p_holm=p_text(row["p_holm"]),
        p_sort="" if row["p_holm"] is None else f"{row['p_holm']:.6g}",
        problems=number(row["n_problems"], 0),
        fired="" if row["fired"] is None else f"fired {number(row['fired'], 0)} ×",
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
