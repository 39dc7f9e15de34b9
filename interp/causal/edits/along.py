"""Edits along a direction: add it, project it out, or set the residual's component along it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from interp.causal.edits.base import ResidualEdit
from interp.errors import InterpError


@dataclass(frozen=True, eq=False)
class Along(ResidualEdit):
    """An edit along `vector`, in input units."""

    vector: Float[Tensor, " d"]
    label: str = field(default="a direction", kw_only=True)

    def check(self, width: int) -> None:
        if len(self.vector) != width:
            raise InterpError(
                f"{self.name}: the direction's width is {len(self.vector)}, that of {self.site} is {width}"
            )

    def unit(self, h: Tensor) -> Float[Tensor, " d"]:
        """The direction at norm 1, where the activations are."""
        return (self.vector / self.vector.norm()).to(h)


@dataclass(frozen=True, eq=False)
class Add(Along):
    """h ← h + scale · vector."""

    scale: float = field(default=1.0, kw_only=True)
    dose: float | None = field(default=None, kw_only=True)
    """The same in multiples of the residual's mean norm, where it was given so."""

    @property
    def name(self) -> str:
        size = f"{self.scale:+.3g} times" if self.dose is None else f"{self.dose:+g} of"
        return f"add {size} {self.label}"

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        return h if self.scale == 0 else h + (self.scale * self.vector).to(h)


@dataclass(frozen=True, eq=False)
class SetComponent(Along):
    """h ← h - (h·v̂)v̂ + value · v̂: the component along v̂ becomes `value`; 0 projects the direction out."""

    value: float = field(default=0.0, kw_only=True)
    along: Float[Tensor, " d"] | None = field(default=None, kw_only=True)
    """Another direction along which the change is written, as far: a control. None: along v̂."""

    @property
    def name(self) -> str:
        own = f"project {self.label} out" if self.value == 0 else f"set {self.label} to {self.value:.3g}"
        return own if self.along is None else f"{own}, written along another direction"

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({f"a component at {self.site}"})

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        unit = self.unit(h)
        written = unit if self.along is None else (self.along / self.along.norm()).to(h)
        return h + (self.value - h @ unit)[:, None] * written
