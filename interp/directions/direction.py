"""A direction in the residual stream of one block, with how it was made. Operations compute in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions.provenance import Provenance, combined
from interp.errors import InterpError

SITES = ("resid_pre", "resid_mid", "resid_post")
"""TransformerLens names of the residual before a block, after its attention, and after it."""
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PARALLEL = 1e-6
"""Share of a vector's norm below which what `orthogonal_to` leaves is rounding."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector in the residual's units at `site` (one of `SITES`) of block `layer` (from 0). The tensor is
    copied: float32, on the CPU.

    Raises:
        InterpError: not one axis, not floats, NaN or infinity, all zeros, an unknown site or a negative layer.
    """

    vector: Float[Tensor, " d_model"]
    layer: int
    site: str = "resid_post"
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise InterpError(f"direction: site {self.site!r} is not one of {', '.join(SITES)}; name one of them")
        if not isinstance(self.layer, int) or isinstance(self.layer, bool) or self.layer < 0:
            raise InterpError(f"direction: layer {self.layer!r} is not a block's number; count them from 0")
        object.__setattr__(self, "vector", _checked(self.vector, self.hook_name))

    def __eq__(self, other: object) -> bool:
        """Whether vector (to the bit, but for the sign of a zero), site and provenance are equal."""
        if not isinstance(other, Direction):
            return NotImplemented
        same = self.hook_name == other.hook_name and self.provenance == other.provenance
        return same and torch.equal(self.vector, other.vector)

    def __hash__(self) -> int:
        return hash((self.hook_name, tuple(self.vector.tolist())))

    def __repr__(self) -> str:
        return f"Direction({self.hook_name}, d_model={self.d_model}, norm={self.norm:.4g}, {self.provenance.method})"

    @property
    def hook_name(self) -> str:
        """TransformerLens' name of the site, such as `blocks.3.hook_resid_post`."""
        return f"blocks.{self.layer}.hook_{self.site}"

    @property
    def d_model(self) -> int:
        """The residual's width."""
        return len(self.vector)

    @property
    def norm(self) -> float:
        """L2 norm, in the residual's units."""
        return float(self.vector.double().norm())

    def unit(self) -> Direction:
        """The same direction with norm 1, to float32's rounding."""
        return self.scaled(1.0)

    def scaled(self, norm: float) -> Direction:
        """The same direction with another norm. The provenance stays, its evidence too.

        Raises:
            InterpError: the norm is not finite or not above 0; a reversed direction is `-direction`.
        """
        if not (math.isfinite(norm) and norm > 0):
            raise InterpError(f"{self.hook_name}: norm {norm} is not above 0 and finite; reverse with -direction")
        return replace(self, vector=self.vector.double() * (norm / self.norm))

    def __neg__(self) -> Direction:
        return replace(self, vector=-self.vector, provenance=self.provenance.reversed())

    def __add__(self, other: Direction) -> Direction:
        """Sum of the vectors.

        Raises:
            InterpError: another layer, site or width; or the sum is 0.
        """
        self._check_place(other)
        return self._combined(self.vector.double() + other.vector.double(), "+", other)

    def __sub__(self, other: Direction) -> Direction:
        """Difference of the vectors; errors as for the sum."""
        self._check_place(other)
        return self._combined(self.vector.double() - other.vector.double(), "-", other)

    def orthogonal_to(self, other: Direction) -> Direction:
        """What is left when the projection on `other` is taken off.

        Raises:
            InterpError: another layer, site or width; or the two are parallel.
        """
        self._check_place(other)
        mine, axis = self.vector.double(), other.vector.double() / other.norm
        left = mine - (mine @ axis) * axis
        if float(left.norm()) < _PARALLEL * self.norm:
            raise InterpError(f"{self.hook_name}: nothing is left, as the two directions are parallel; take another")
        return self._combined(left, "orthogonal to", other)

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle between the two, from -1 to 1.

        Raises:
            InterpError: another layer, site or width.
        """
        self._check_place(other)
        product = (self.vector.double() / self.norm) @ (other.vector.double() / other.norm)
        return max(-1.0, min(1.0, float(product)))

    # Here the package of the edits adds those that use a direction: `add(dose)`, `project_out()`, `set_to(value)`.

    def _check_place(self, other: Direction) -> None:
        if (self.hook_name, self.d_model) != (other.hook_name, other.d_model):
            mine, theirs = (f"{d.hook_name} with {d.d_model} coordinates" for d in (self, other))
            raise InterpError(f"direction: one is of {mine}, the other of {theirs}; make both at one site")

    def _combined(self, vector: Tensor, sign: str, other: Direction) -> Direction:
        result = replace(self, vector=vector)  # refuses a zero vector before its norm is noted
        return replace(result, provenance=combined(self.provenance, sign, other.provenance, result.norm))


def _checked(vector: Tensor, where: str) -> Float[Tensor, " d_model"]:
    """A float32 copy on the CPU."""
    if vector.ndim != 1 or len(vector) == 0:
        raise InterpError(f"{where}: the direction has shape {list(vector.shape)}; give one axis, [d_model]")
    if vector.dtype not in FLOATS:
        raise InterpError(f"{where}: the direction is {vector.dtype}; give floats of 16, 32 or 64 bits")
    copy = vector.detach().to("cpu", torch.float32, copy=True).contiguous()
    if not copy.isfinite().all():
        raise InterpError(f"{where}: the direction holds NaN or infinity in float32; make it again from finite rows")
    if not copy.any():
        raise InterpError(f"{where}: the direction is zero, so it points nowhere; make it from rows that differ")
    return copy
