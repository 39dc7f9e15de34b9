"""Pre-registration: every threshold of the instrument, and the seeds that it was tuned and is reported on, in a file
that is committed before the studies run. A calibration whose code differs from the file does not begin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.errors import InterpError, first_difference
from interp.folders import digest

CONSTANTS = {
    "interp.features.sites": ("FEWEST", "PATCHED", "LEAST_GAP", "PENALTY", "READABLE"),
    "interp.features.selection": (
        "EXACT",
        "MOST",
        "LEAST",
        "GONE",
        "QUARTER",
        "DAMAGE",
        "DAMAGE_KL",
        "HARMFUL",
        "DRAWS",
    ),
    "interp.features.recurrence": ("LEAST",),
    "interp.features.matched": ("NEIGHBOURS", "CALLIPER", "SAME", "TRIES"),
    "interp.features.margin": ("CLEAR", "RARE"),
    "interp.features.specificity": ("NU_ERROR", "NU_RECON", "NORM_EXCLUSIVE"),
    "interp.causal.checks": (
        "GONE",
        "GONE_IN_CIRCUIT",
        "KEPT_FUNCTION",
        "KEPT_WRONG",
        "KEPT_CHECKS",
        "KEPT_STYLE",
        "EVENTS",
        "RARE",
        "CHANCE",
        "READ",
        "UNSEEN",
        "NEVER",
        "SURVIVED",
        "LENGTH",
        "FINISHED",
        "UNENDED",
        "REPETITION",
        "FEWEST_DRAWS",
        "DAMAGE",
    ),
    "interp.causal.verdict": ("FEWEST", "COVERED"),
}
"""Module to the constants that a verdict or a claim of latents depends on."""


@dataclass(frozen=True)
class Registration:
    """What was fixed before the studies ran."""

    thresholds: Mapping[str, Any]
    """`module.NAME` to its value."""
    configs: Mapping[str, Mapping[str, Any]]
    """World to the study that its organisms vary, without seed and kind of organism."""
    tuning: tuple[int, ...]
    """Seeds that thresholds and rules were chosen on."""
    reporting: tuple[int, ...]
    """Seeds that rates are reported on."""

    def digest(self, world: str) -> str:
        """Of thresholds and config: readings of a world by the same rules have the same."""
        return digest([self.thresholds, self.configs[world]])[:12]


def thresholds() -> dict[str, Any]:
    """`module.NAME` to the value that the code has, as JSON has it."""
    found = {
        f"{module.removeprefix('interp.')}.{name}": getattr(import_module(module), name)
        for module, names in CONSTANTS.items()
        for name in names
    }
    return json.loads(json.dumps(found))


def register(
    path: Path, configs: Mapping[str, Mapping[str, Any]], tuning: tuple[int, ...], reporting: tuple[int, ...]
) -> None:
    """Write the file; it counts from the commit that holds it.

    Raises:
        InterpError: a seed is in both sets.
    """
    _disjoint(path, tuning, reporting)
    content = {"tuning": tuning, "reporting": reporting, "thresholds": thresholds(), "configs": configs}
    path.write_text(json.dumps(content, indent=1) + "\n")


def registered(path: Path, configs: Mapping[str, Mapping[str, Any]]) -> Registration:
    """Read the file, and compare it with the code and with the configs of some worlds.

    Raises:
        InterpError: it cannot be read, or a threshold or a value of a config differs.
    """
    try:
        raw = json.loads(path.read_text())
        found = Registration(raw["thresholds"], raw["configs"], tuple(raw["tuning"]), tuple(raw["reporting"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InterpError(f"{path}: no registration can be read ({error!r}); write one with --register") from error
    _disjoint(path, found.tuning, found.reporting)
    mine = {world: found.configs.get(world) for world in configs}
    for what, was, now in (("thresholds", found.thresholds, thresholds()), ("configs", mine, configs)):
        if (differs := first_difference(was, now)) is not None:
            key, old, new = differs
            raise InterpError(
                f"{path}: {what}.{key} was registered as {old!r} and is {new!r} now; a calibration under other rules "
                "needs other seeds and a registration of its own (--register)"
            )
    return found


def _disjoint(path: Path, tuning: tuple[int, ...], reporting: tuple[int, ...]) -> None:
    if both := sorted({*tuning} & {*reporting}):
        raise InterpError(f"{path}: seed {both[0]} is among tuning and reporting; rates are reported on new seeds only")
