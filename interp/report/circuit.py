"""The latents of the decision as the page shows them: what is claimed, or why nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from interp.report.inputs import Study
from interp.report.numbers import number, p_text, real
from interp.report.palette import MODEL_LABELS
from interp.report.sites import hook
from interp.report.verdict import Arm, read_arms

Table = list[list[str]]
"""A head and rows of cells; empty where there is nothing to show."""

CLASSES = {"deciding": "Deciding latents", "wording": "Wording latents", "executing": "Executing latents"}
ABOUT = {
    "executing": "They carry that a step that is worked again comes out otherwise, before its second result.",
    "deciding": "They carry whether a check begins, at the place where it can.",
    "wording": "They carry which word opens a check, given that one does.",
}


@dataclass(frozen=True)
class Class:
    """One class of latents."""

    title: str
    about: str
    located: bool
    why: str
    latents: list[int]
    facts: list[tuple[str, str]]
    """Names and numbers; empty where none was sought."""
    latents_of_models: Table
    readout: Table
    recurrence: Table
    own_sets: Table
    evidence: Table


@dataclass(frozen=True)
class Through:
    """The verdict through the circuit."""

    name: str
    why: str
    agrees: bool
    arms: list[Arm]


@dataclass(frozen=True)
class Circuit:
    """The section's content."""

    site: str
    classes: list[Class]
    verdict: Through | None


def claimed(study: Study) -> list[int]:
    """Every latent that is claimed, in order."""
    return [j for name in CLASSES for j in _record(study, name).get("latents") or []]


def read_circuit(study: Study) -> Circuit | None:
    """The section's content, or None where the stage left nothing."""
    classes = [_class(study, name, _record(study, name)) for name in CLASSES if _record(study, name)]
    return Circuit(hook(study.circuit.get("site")), classes, _through(study)) if classes else None


def _through(study: Study) -> Through | None:
    raw = study.verdict.get("circuit")
    if not isinstance(raw, Mapping) or not raw.get("verdict"):
        return None
    return Through(str(raw["verdict"]), str(raw.get("verdict_why") or ""), bool(raw.get("agrees")), read_arms(raw))


def _record(study: Study, name: str) -> Mapping[str, Any]:
    found = study.circuit.get(name)
    return found if isinstance(found, Mapping) else {}


def _class(study: Study, name: str, found: Mapping[str, Any]) -> Class:
    tried = [int(j) for j in found.get("tried") or []]
    return Class(
        title=CLASSES[name],
        about=ABOUT[name],
        located=bool(found.get("located")),
        why=str(found.get("why") or ""),
        latents=[int(j) for j in found.get("latents") or []],
        facts=list(_facts(found)) if real(found.get("onset")) is not None else [],
        latents_of_models=_between_models(study, tried),
        readout=_readout(study, name),
        recurrence=_recurrence(study, name),
        own_sets=_own_sets(found),
        evidence=_evidence(study, name),
    )


def _between_models(study: Study, latents: Sequence[int]) -> Table:
    """Specificity, Latent Scaling and firing of the latents that were tried."""
    rows = study.latents.filter(pl.col("latent").is_in(list(latents)))
    columns = {f"share, {MODEL_LABELS[m]}": (f"specificity_{m}", 2) for m in study.compared}
    columns |= {"ν error": ("nu_error_max", 2), "ν reconstruction": ("nu_recon_max", 2)}
    columns |= {f"fires, {MODEL_LABELS[m]}": (f"rate_{m}", 4) for m in study.compared}
    there = {label: spec for label, spec in columns.items() if spec[0] in rows.columns}
    table = [
        [str(row["latent"]), *(number(row[column], digits) for column, digits in there.values())]
        for row in rows.iter_rows(named=True)
    ]
    return [["latent", *there], *table] if table else []


def _readout(study: Study, name: str) -> Table:
    table = [
        [
            str(r["latent"]),
            MODEL_LABELS.get(r["model"], str(r["model"])),
            *(number(r[f"fires_{side}"], 3) for side in ("positive", "negative")),
            *(number(r[f"mean_{side}"], 2) for side in ("positive", "negative")),
        ]
        for r in study.readout.filter(pl.col("class") == name).iter_rows(named=True)
    ]
    head = ["latent", "read in", "fires, positive side", "negative", "mean, positive side", "negative"]
    return [head, *table] if table else []


def _recurrence(study: Study, name: str) -> Table:
    rows = study.recurrence.filter(pl.col("class") == name)
    table = [
        [str(r["latent"]), str(r["dictionary"]), _or_dash(r["partner"]), number(r["cosine"], 2), _yes(r["recurs"])]
        for r in rows.iter_rows(named=True)
    ]
    return [["latent", "dictionary", "partner", "cosine", "the same"], *table] if table else []


def _own_sets(found: Mapping[str, Any]) -> Table:
    table = [
        [
            str(seed),
            ", ".join(map(str, own.get("latents") or [])),
            number(own.get("onset_ablated"), 3),
            _yes(own.get("carries")),
        ]
        for seed, own in (found.get("own_sets") or {}).items()
        if isinstance(own, Mapping)
    ]
    return [["dictionary", "latents", "P(onset) left", "below a quarter"], *table] if table else []


def _evidence(study: Study, name: str) -> Table:
    head = [
        "what",
        "in",
        "n",
        "edit",
        "margin, nats",
        "P(onset)",
        "false alarms",
        "KL there",
        "controls",
        "P(onset) of controls",
        "p",
    ]
    table = [
        [
            str(r["what"]),
            MODEL_LABELS.get(r["model"], str(r["model"])),
            number(r["k"], 0) if r["k"] else "",
            str(r["edit"]),
            f"{number(r['margin_untouched'], 1)} → {number(r['margin'], 1)}",
            f"{number(r['onset_untouched'], 3)} → {number(r['onset'], 3)}",
            f"{number(r['false_alarm_untouched'], 3)} → {number(r['false_alarm'], 3)}",
            number(r["kl_negative"], 3),
            f"{r['n_controls']} × {r['control']}" if r["n_controls"] else "none",
            _spread(r),
            p_text(real(r["p"])),
        ]
        for r in study.evidence.filter(pl.col("class") == name).iter_rows(named=True)
    ]
    return [head, *table] if table else []


def _spread(row: Mapping[str, Any]) -> str:
    if not row["n_controls"]:
        return "–"
    return f"{number(row['control_mean'], 3)}, {number(row['control_low'], 3)} to {number(row['control_high'], 3)}"


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The confirmation's numbers; probabilities are of the tokens that begin the behaviour."""

    def both(key: str) -> str:
        return f"{number(found.get(key), 3)} → {number(found.get(f'{key}_ablated'), 3)}"

    controls = [value for value in map(real, found.get("controls") or []) if value is not None]
    spread = f"{number(min(controls), 3)} to {number(max(controls), 3)}" if controls else "none"
    return [
        ("Tried", ", ".join(map(str, found.get("tried") or []))),
        ("Probability after the positive side, untouched → set back", both("onset")),
        ("The same after the negative side (false alarms)", both("false_alarm")),
        ("KL after the negative side, nats", number(found.get("kl_negative"), 4)),
        (f"Probability under {len(controls)} controls", spread),
        ("p", p_text(real(found.get("p")))),
        ("Pairs", number(found.get("pairs"), 0)),
        ("Match", str(found.get("match") or "")),
        ("Gap of the margin, nats", number(found.get("gap"), 2)),
        ("Of it in the dictionary, nats", number(found.get("explained"), 2)),
        ("Rank correlation of attribution and exact effect", number(found.get("correlation"), 2)),
    ]
