"""Directions with the edits that use them: the public `interp.Direction`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from interp.causal.edits.along import Add, SetComponent
from interp.directions import Direction as Plain
from interp.directions import export_gguf, load, save
from interp.errors import InterpError
from interp.models.hooks import Site


class Direction(Plain):
    """A direction that can be added, projected out, or set, and kept in a file.

    v = interp.Direction.load("v.safetensors"); arms = [v.add(0.1), v.project_out().at(FORKS)]
    """

    @property
    def place(self) -> Site:
        """Its site, as edits name it."""
        return Site(self.layer, self.site)

    def add(self, dose: float, *, label: str = "a direction") -> Add:
        """h ← h + dose · r · v̂, where r is the mean norm of the residual that the direction's provenance states; so a
        dose means the same whatever the vector's norm.

        Raises:
            InterpError: the provenance states no norm.
        """
        norm = self.provenance.residual_norm
        if not norm:
            raise InterpError(
                f"{self.hook_name}: the direction does not state the residual's mean norm, the unit of a dose; make it "
                "from activations, or use add_raw"
            )
        return Add(self.place, self.vector, scale=dose * norm / self.norm, dose=dose, label=label)

    def add_raw(self, factor: float, *, label: str = "a direction") -> Add:
        """h ← h + factor · v, in the vector's own norm, as llama.cpp and repeng count strength."""
        return Add(self.place, self.vector, scale=factor, label=label)

    def project_out(self, *, label: str = "a direction") -> SetComponent:
        """h ← h - (h·v̂) v̂."""
        return SetComponent(self.place, self.vector, label=label)

    def set_to(self, value: float, *, label: str = "a direction") -> SetComponent:
        """h ← h with the component along v̂ set to `value`, in the residual's units."""
        return SetComponent(self.place, self.vector, value=value, label=label)

    def save(self, path: Path | str) -> None:
        """Write it as safetensors with its provenance."""
        save(self, Path(path))

    def export_gguf(self, path: Path | str, model_hint: str, *, scale: float | None = None) -> None:
        """Write a control vector for llama.cpp and its kin (see `directions.gguf`)."""
        export_gguf(self, Path(path), model_hint, scale)

    @classmethod
    def of(cls, plain: Plain) -> Direction:
        """The same direction with its edits."""
        return cls(plain.vector, plain.layer, plain.site, plain.provenance)

    @classmethod
    def load(
        cls, path: Path | str, *, layer: int | None = None, site: str | None = None, d_model: int | None = None
    ) -> Direction:
        """Read a direction from any format of `directions.files`.

        Raises:
            InterpError: it cannot be read, or does not say which layer it is of.
        """
        return cls.of(load(Path(path), layer=layer, site=site, d_model=d_model))


def with_edits(directions: Mapping[int, Plain]) -> dict[int, Direction]:
    """Several layers' directions with their edits."""
    return {layer: Direction.of(plain) for layer, plain in directions.items()}
