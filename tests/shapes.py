"""What checks the shapes in the package's signatures while its tests run."""

import re
from collections.abc import Callable
from typing import Any

from beartype import beartype

CHECKED = [
    "interp.activations",
    "interp.causal",
    "interp.crosscoder",
    "interp.directions.gguf",
    "interp.directions.make",
    "interp.directions.plain",
    "interp.directions.random",
    "interp.features",
    "interp.statistics",
    "interp.traces.measure",
    "interp.generation",
]
"""Modules whose types are all there at run time; elsewhere some are imported for the type checker alone, or the values
check themselves and give the user one line."""
_PROTOCOL = re.compile(r"\b(Decoder|ResidualEdit|Task)\b")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, but for protocols, which it cannot check."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: hint for name, hint in hints.items() if not _PROTOCOL.search(str(hint))}
    return beartype(function)
