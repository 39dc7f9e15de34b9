"""Does a distilled model's performance run on its style? The public face; every name is imported when it is first used.

import interp
trio = interp.load_trio(base="...", distilled="...", zero_rl="...")   # folders, hub ids or adapters
task = interp.tasks.open("problems.jsonl")
cc = interp.Crosscoder.load("results/organism/crosscoder")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import tasks
    from interp.crosscoder import Crosscoder
    from interp.models.loaded import load_trio

__all__ = ["Crosscoder", "load_trio", "tasks"]

_PLACES = {"Crosscoder": "interp.crosscoder", "load_trio": "interp.models.loaded"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name in __all__:
        return import_module(f"interp.{name}")
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
