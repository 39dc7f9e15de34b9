"""The end of the page: limits of this study, its stages and versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.names import MODELS
from interp.report.inputs import Study
from interp.report.numbers import duration, number, span
from interp.report.palette import MODEL_LABELS

LIMITS = (
    (
        "A reading of an unknown model counts no more than the instrument's calibration: read it together with the "
        "confusion matrix over organisms with known truth."
    ),
    "One crosscoder of one seed. A latent that does not recur over seeds is no finding.",
    (
        "An effect on generated text is an effect of the whole edit. “Style removed” also moves the distribution of "
        "everything after the removed token; the controls bound this, they do not remove it."
    ),
    (
        "Labels of behaviours come from rules, and on the project's own tasks from the operands of a recomputation. "
        "Behaviour that neither sees is counted as absent."
    ),
    "Contexts are the strongest ones, and sample traces are chosen by the rule printed with them. Neither is typical.",
)


def limits(study: Study) -> list[str]:
    """Limits of this study: the general ones, and its own gaps."""
    own = [
        f"There is no {MODEL_LABELS[m]} model in this study, and nothing is compared with it." for m in _absent(study)
    ]
    sizes = study.effects["n_problems"].drop_nulls()
    if sizes.len():
        own.append(f"Effects rest on {span(sizes.to_list())} problems each.")
    if not study.verdict.get("truth"):
        own.append("The truth of this study is not known: the verdict is a reading, not a calibration.")
    return [*own, *study.missing, *LIMITS]


def _absent(study: Study) -> list[str]:
    return [m for m in MODELS if m not in study.models]


@dataclass(frozen=True)
class StageRow:
    """One stage of the study."""

    name: str
    wall: str
    rows: str
    device: str
    seeds: str
    hash: str


def stages(study: Study) -> list[StageRow]:
    """The manifests, in the order of the work."""
    return [
        StageRow(
            name=name,
            wall=duration(m.get("wall_seconds")),
            rows=_plain(m.get("rows")),
            device=_plain(m.get("device")),
            seeds=_plain(m.get("seeds")),
            hash=str(m.get("config_hash") or "–")[:12],
        )
        for name, m in study.manifests.items()
    ]


def _plain(value: Any) -> str:
    """A manifest's value, which may be a number, a list or a mapping."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(v)}" for key, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value, 0) if abs(value) >= 10_000 else str(value)
    return "–" if value is None else str(value)


def versions(study: Study) -> list[tuple[str, str]]:
    """Each package with its version; where stages ran under different ones, with the stages of each."""
    found: dict[str, dict[str, list[str]]] = {}
    for stage, manifest in study.manifests.items():
        for package, version in (manifest.get("versions") or {}).items():
            found.setdefault(package, {}).setdefault(str(version), []).append(stage)
    return [
        (package, next(iter(by)) if len(by) == 1 else "; ".join(f"{v} ({', '.join(s)})" for v, s in by.items()))
        for package, by in sorted(found.items())
    ]
