"""Does a distilled model's performance run on its style? The public face; every name is imported when it is first used.

import interp
trio = interp.load_trio(base="...", distilled="...", zero_rl="...")   # folders, hub ids or adapters
task = interp.tasks.open("problems.jsonl")
cc = interp.Crosscoder.load("results/organism/crosscoder")
v = interp.Direction.load("results/organism/causal/directions/behaviour.safetensors")
runs = interp.run(trio, task, [interp.edits.ban("default"), interp.edits.ablate(cc, [3, 17], 1), v.add(-0.1)])
interp.effects(runs)   # every outcome of every arm, with intervals, beside its controls
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import tasks
    from interp.causal import edits
    from interp.causal.public import effects, run, verdict
    from interp.causal.runs import read_runs
    from interp.causal.steering import Direction
    from interp.cli import open_study
    from interp.crosscoder import Crosscoder
    from interp.models.loaded import load_trio

__all__ = [
    "Crosscoder",
    "Direction",
    "edits",
    "effects",
    "load_trio",
    "open_study",
    "read_runs",
    "run",
    "tasks",
    "verdict",
]

_PLACES = {
    "Crosscoder": "interp.crosscoder",
    "Direction": "interp.causal.steering",
    "effects": "interp.causal.public",
    "load_trio": "interp.models.loaded",
    "open_study": "interp.cli",
    "read_runs": "interp.causal.runs",
    "run": "interp.causal.public",
    "verdict": "interp.causal.public",
}
_MODULES = {"edits": "interp.causal.edits", "tasks": "interp.tasks"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
