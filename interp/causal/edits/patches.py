"""Activations put in from elsewhere: another model's at the same tokens, or none at all; whole or for some heads."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from interp.causal.edits.base import ResidualEdit
from interp.errors import InterpError
from interp.models.hooks import Site


@dataclass(frozen=True, eq=False)
class Patch(ResidualEdit):
    """h ← the `source` model's activation at the same site and tokens, or 0 where `source` is None; of the given heads
    alone at the site `z`, whose heads are `n_heads`."""

    source: str | None
    heads: tuple[int, ...] | None = field(default=None, kw_only=True)
    n_heads: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.heads is not None and self.site.name != "z":
            raise InterpError(f"{self.name}: {self.site} has no heads; patch heads at the site z")
        wrong = [head for head in self.heads or () if not 0 <= head < self.n_heads]
        if wrong:
            raise InterpError(f"{self.name}: no head {wrong[0]}; the model has heads 0 to {self.n_heads - 1}")

    def check_heads(self, n_heads: int) -> None:
        """Refuse a model with another number of heads."""
        if self.heads is not None and self.n_heads != n_heads:
            raise InterpError(
                f"{self.name}: n_heads is {self.n_heads}, the model has {n_heads} heads; give their number"
            )

    @property
    def name(self) -> str:
        what = f"{self.site}" + ("" if self.heads is None else f" heads {', '.join(map(str, self.heads))}")
        return f"zero {what}" if self.source is None else f"patch {what} from {self.source}"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.source is None else frozenset({self.source})

    @property
    def claims(self) -> frozenset[str]:
        if self.heads is None:
            return frozenset({f"all of {self.site}"})
        return frozenset(f"head {head} of {self.site}" for head in self.heads)

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        new = h.new_zeros(h.shape) if self.source is None else others[self.source].to(h.dtype)
        if self.heads is None:
            return new
        mixed = h.clone().view(len(h), self.n_heads, -1)
        mixed[:, list(self.heads)] = new.reshape(mixed.shape)[:, list(self.heads)]
        return mixed.view_as(h)


def patch_from(
    source: str, layer: int, *, site: str = "resid_post", heads: tuple[int, ...] | None = None, n_heads: int = 1
) -> Patch:
    """Put another model's activation at the same tokens in; `heads` and their number for parts of the site z."""
    return Patch(Site(layer, site), source, heads=heads, n_heads=n_heads)


def zero(layer: int, *, site: str = "mlp_out", heads: tuple[int, ...] | None = None, n_heads: int = 1) -> Patch:
    """Take an activation away: an MLP's output, or some heads' at the site z."""
    return Patch(Site(layer, site), None, heads=heads, n_heads=n_heads)
