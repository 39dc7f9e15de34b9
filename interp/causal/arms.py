"""Arms: a named edit, its matched controls, and what it claims to change and to keep."""

from __future__ import annotations

from dataclasses import dataclass, replace

from interp.causal.edits import Edit
from interp.errors import InterpError
from interp.names import EDITED

STYLE, FUNCTION, BOTH = "style removed, function kept", "function removed, style kept", "both removed"
"""What the arms of a verdict claim (`Arm.claim`)."""
REMOVALS = (STYLE, FUNCTION, BOTH)
CIRCUIT = "circuit"
"""Family of the arms on the latents of a decision."""


@dataclass(frozen=True)
class Arm:
    """One edit with its controls.

    Raises:
        InterpError: a name that could not be told from another, or an unknown claim.
    """

    name: str
    edit: Edit
    controls: tuple[Edit, ...] = ()
    """One edit a draw."""
    control_name: str = "none"
    claim: str = ""
    """One of `REMOVALS`, which the checks then ask for; empty where it claims nothing of the kind."""
    family: str = "edits"
    """Table that it stands in; p is adjusted over all arms of one table."""
    models: tuple[str, ...] = (EDITED,)
    """Models that it is run on, the first of them with its controls."""
    problems: int | None = None
    """Of the run's problems the first ones; None is all."""
    control_problems: int | None = None
    """The same of every control draw; None is as many as the arm's."""
    first: int = 0
    """The first problem; those before it served to choose something that the arm uses."""
    site: str | None = None
    layer: int | None = None
    dose: float | None = None
    note: str = ""
    """What a reader of its rows must know, such as how well its controls are matched."""
    found: bool = False
    """Whether it removes style words that no lexicon lists, too."""
    forced: bool = False
    """Whether its words are forced, so that perplexity says nothing about coherence."""

    def __post_init__(self) -> None:
        if not self.name or self.name == "untouched":
            raise InterpError(f"arm {self.name!r}: give it a name of its own; 'untouched' is the run without an edit")
        if self.claim not in ("", *REMOVALS):
            raise InterpError(
                f"arm {self.name!r}: claim {self.claim!r}; it must be one of {', '.join(REMOVALS)}, or none"
            )

    def with_controls(self, *controls: Edit, name: str) -> Arm:
        """The same arm beside these draws of controls."""
        return replace(self, controls=controls, control_name=name)
