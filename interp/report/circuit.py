"""The latents of the decision as the page shows them: what is claimed, or why nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp.report.inputs import Study
from interp.report.numbers import number, p_text, real
from interp.report.sites import hook

CLASSES = {"deciding": "Deciding latents", "wording": "Wording latents"}
ABOUT = {
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


@dataclass(frozen=True)
class Circuit:
    """The section's content."""

    site: str
    classes: list[Class]


def claimed(study: Study) -> list[int]:
    """Every latent that is claimed, in order."""
    return [j for name in CLASSES for j in _record(study, name).get("latents") or []]


def read_circuit(study: Study) -> Circuit | None:
    """The section's content, or None where the stage left nothing."""
    classes = [_class(name, _record(study, name)) for name in CLASSES if _record(study, name)]
    return Circuit(hook(study.circuit.get("site")), classes) if classes else None


def _record(study: Study, name: str) -> Mapping[str, Any]:
    found = study.circuit.get(name)
    return found if isinstance(found, Mapping) else {}


def _class(name: str, found: Mapping[str, Any]) -> Class:
    return Class(
        title=CLASSES[name],
        about=ABOUT[name],
        located=bool(found.get("located")),
        why=str(found.get("why") or ""),
        latents=[int(j) for j in found.get("latents") or []],
        facts=list(_facts(found)) if real(found.get("onset")) is not None else [],
    )


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The confirmation's numbers; probabilities are of the tokens that begin the behaviour."""

    def both(key: str) -> str:
        return f"{number(found.get(key), 3)} → {number(found.get(f'{key}_ablated'), 3)}"

    controls = [value for value in map(real, found.get("controls") or []) if value is not None]
    spread = f"{number(min(controls), 3)} to {number(max(controls), 3)}" if controls else "none"
    return [
        ("Tried", ", ".join(map(str, found.get("tried") or []))),
        ("Probability after the positive side, untouched → set to zero", both("onset")),
        ("The same after the negative side (false alarms)", both("false_alarm")),
        ("KL after the negative side, nats", number(found.get("kl_negative"), 4)),
        (f"Probability under {len(controls)} matched sets", spread),
        ("p", p_text(real(found.get("p")))),
        ("Pairs", number(found.get("pairs"), 0)),
        ("Match", str(found.get("match") or "")),
        ("Gap of the margin, nats", number(found.get("gap"), 2)),
        ("Of it in the dictionary, nats", number(found.get("explained"), 2)),
        ("Rank correlation of attribution and exact effect", number(found.get("correlation"), 2)),
    ]
