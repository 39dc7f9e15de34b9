"""Edits of latents, with the crosscoder's error kept: h ← h + Σ_{j∈S} (f'_j - f_j) d_mj, d in input units.

`f` is the joint code of all the crosscoder's models at the same position, so they all read along, except for
`transplant`, which compares the codes of two models alone (the swap readout: one model's activations in every slot).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.edits.base import ResidualEdit
from interp.crosscoder import Crosscoder
from interp.errors import InterpError
from interp.features.matched import as_long
from interp.models.hooks import Site
from interp.names import COMPARED, EDITED


@dataclass(frozen=True, eq=False)
class LatentEdit(ResidualEdit):
    """An edit of some latents in one of a crosscoder's models.

    Raises:
        InterpError: the crosscoder has no such latent or model.
    """

    crosscoder: Crosscoder
    latents: tuple[int, ...]
    model: str = field(default=EDITED, kw_only=True)
    """The edited model."""
    models: tuple[str, ...] = field(default=COMPARED, kw_only=True)
    """The crosscoder's models, in its order."""

    def __post_init__(self) -> None:
        config = self.crosscoder.config
        if len(self.models) != config.n_models:
            raise InterpError(f"{self.name}: {len(self.models)} models are named, the crosscoder has {config.n_models}")
        if self.model not in self.models:
            raise InterpError(f"{self.name}: no model {self.model!r}; the crosscoder's are {', '.join(self.models)}")
        wrong = [j for j in self.read_or_written if not 0 <= j < config.n_latents]
        if wrong:
            raise InterpError(f"{self.name}: no latent {wrong[0]}; the crosscoder has 0 to {config.n_latents - 1}")

    @property
    def verb(self) -> str:
        """The start of its name."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return f"{self.verb} {_listed(self.latents)}"

    @property
    def read_or_written(self) -> tuple[int, ...]:
        """The latents that the crosscoder must have."""
        return self.latents

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.models) - {self.model}

    @property
    def claims(self) -> frozenset[str]:
        return frozenset(f"latent {j} at {self.site}" for j in self.latents)

    def on(self, model: str) -> LatentEdit:
        """The same edit of another of the crosscoder's models.

        Raises:
            InterpError: it is none of them.
        """
        return replace(self, model=model)

    @property
    def slot(self) -> int:
        """The edited model's place in the crosscoder."""
        return self.models.index(self.model)

    def check(self, width: int) -> None:
        if width != self.crosscoder.config.d_model:
            raise InterpError(
                f"{self.name}: the crosscoder's width is {self.crosscoder.config.d_model}, "
                f"that of {self.site} is {width}; give a crosscoder of this site"
            )

    def rows(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Tensor:
        """[rows, models, d_model]: all models' activations in the crosscoder's order."""
        return torch.stack([h if name == self.model else others[name] for name in self.models], dim=1)

    @property
    def index(self) -> Tensor:
        return torch.tensor(self.latents, dtype=torch.long, device=self.crosscoder.W_dec.device)

    @property
    def decoders(self) -> Float[Tensor, "latents d"]:
        """All latents' decoders of the edited model, in input units."""
        return self.crosscoder.W_dec[:, self.slot] / self.crosscoder.scale[self.slot]

    def decoder(self, slot: int) -> Float[Tensor, "chosen d"]:
        """The chosen latents' decoders of one model, in input units."""
        return self.crosscoder.W_dec[self.index, slot] / self.crosscoder.scale[slot]

    def add(self, h: Float[Tensor, "rows d"], change: Float[Tensor, "rows chosen"]) -> Float[Tensor, "rows d"]:
        """h + change · d; rows whose code does not change keep their bits."""
        moved = (change != 0).any(dim=1, keepdim=True)
        return torch.where(moved, h + (change @ self.decoder(self.slot)).to(h.dtype), h)


@dataclass(frozen=True, eq=False)
class Revalued(LatentEdit):
    """Latents that take other values.

    Raises:
        InterpError: not one decoder for each latent.
    """

    along: tuple[int, ...] | None = field(default=None, kw_only=True)
    """For each of the latents another, along whose decoder its change is written, as far: a control that moves the
    residual at the same places by the same amount. None: along its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.along is not None and len(self.along) != len(self.latents):
            raise InterpError(f"{self.name}: {len(self.along)} decoders for {len(self.latents)} latents; give one each")

    @property
    def name(self) -> str:
        own = super().name
        return own if self.along is None else f"{own} along {_listed(self.along)}"

    @property
    def read_or_written(self) -> tuple[int, ...]:
        return (*self.latents, *(self.along or ()))

    def decoder(self, slot: int) -> Float[Tensor, "chosen d"]:
        own = super().decoder(slot)
        return own if self.along is None else as_long(self.crosscoder.W_dec[list(self.along), slot], own)


@dataclass(frozen=True, eq=False)
class Scale(Revalued):
    """f' = factor · f: 0 ablates, 1 is the identity, 3 amplifies."""

    factor: float = field(default=0.0, kw_only=True)

    @property
    def verb(self) -> str:
        return "ablate latents" if self.factor == 0 else f"scale by {self.factor:g} latents"

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        return self.add(h, (self.factor - 1) * self.crosscoder.encode(self.rows(h, others), self.index))


@dataclass(frozen=True, eq=False)
class SetTo(Revalued):
    """f' = a given value for each latent, such as its mean where nothing was wrong (mean ablation)."""

    values: tuple[float, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != len(self.latents):
            raise InterpError(f"{self.name}: {len(self.values)} values for {len(self.latents)} latents; give one each")

    @property
    def verb(self) -> str:
        return "set to a mean latents"

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        f = self.crosscoder.encode(self.rows(h, others), self.index)
        return self.add(h, torch.tensor(self.values, device=f.device) - f)


@dataclass(frozen=True, eq=False)
class Transplant(LatentEdit):
    """f' - f = the source's code minus the edited model's, each with its activations in every slot (swap readout)."""

    source: str = field(kw_only=True)

    @property
    def verb(self) -> str:
        return f"transplant from {self.source} latents"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.source}) - {self.model}

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        if self.source == self.model:
            return h
        own, source = (
            self.crosscoder.encode(x[:, None].expand(-1, len(self.models), -1), self.index)
            for x in (h, others[self.source])
        )
        return self.add(h, source - own)


@dataclass(frozen=True, eq=False)
class AddDecoderDifference(LatentEdit):
    """h + Σ_{j∈S} f_j (d_toward,j - d_own,j): the latents written as another model writes them (Minder et al. 2025)."""

    toward: str = field(default=EDITED, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.toward not in self.models:
            raise InterpError(f"{self.name}: no model {self.toward!r}; the crosscoder's are {', '.join(self.models)}")

    @property
    def verb(self) -> str:
        return f"decoders of {self.toward} for latents"

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        f = self.crosscoder.encode(self.rows(h, others), self.index)
        difference = self.decoder(self.models.index(self.toward)) - self.decoder(self.slot)
        return torch.where((f != 0).any(dim=1, keepdim=True), h + (f @ difference).to(h.dtype), h)


@dataclass(frozen=True, eq=False)
class Dictionary(LatentEdit):
    """h ← the reconstruction; or, `error` being set, h ← mean + (h - reconstruction), the error alone."""

    error: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return "error only" if self.error else "reconstruction only"

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({f"all of {self.site}"})

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        cc = self.crosscoder
        reconstruction = cc.decode(cc.encode(self.rows(h, others)))[:, self.slot]
        return cc.mean[self.slot] + (h - reconstruction) if self.error else reconstruction


def _listed(latents: Sequence[int]) -> str:
    more = f" and {len(latents) - 4} more" if len(latents) > 4 else ""
    return ", ".join(map(str, latents[:4])) + more


def ablate(
    crosscoder: Crosscoder,
    latents: Sequence[int],
    layer: int,
    *,
    site: str = "resid_post",
    to: Sequence[float] | None = None,
    model: str = EDITED,
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Set latents to zero, or to the given values (their means), in input units of f."""
    place, chosen = Site(layer, site), tuple(latents)
    if to is None:
        return Scale(place, crosscoder, chosen, model=model, models=models)
    return SetTo(place, crosscoder, chosen, values=tuple(map(float, to)), model=model, models=models)


def amplify(
    crosscoder: Crosscoder,
    latents: Sequence[int],
    factor: float,
    layer: int,
    *,
    site: str = "resid_post",
    model: str = EDITED,
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Multiply latents by a factor; 1 is the identity."""
    return Scale(Site(layer, site), crosscoder, tuple(latents), factor=factor, model=model, models=models)


def transplant(
    crosscoder: Crosscoder,
    latents: Sequence[int],
    layer: int,
    *,
    source: str,
    site: str = "resid_post",
    model: str = EDITED,
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Put the source model's activations of latents into the edited model."""
    return Transplant(Site(layer, site), crosscoder, tuple(latents), source=source, model=model, models=models)


def add_decoder_difference(
    crosscoder: Crosscoder,
    latents: Sequence[int],
    layer: int,
    *,
    toward: str = EDITED,
    site: str = "resid_post",
    model: str = "base",
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Write latents with another model's decoders."""
    return AddDecoderDifference(
        Site(layer, site), crosscoder, tuple(latents), toward=toward, model=model, models=models
    )


def reconstruction_only(
    crosscoder: Crosscoder,
    layer: int,
    *,
    site: str = "resid_post",
    model: str = EDITED,
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Replace the residual by its reconstruction: what the dictionary itself costs."""
    return Dictionary(Site(layer, site), crosscoder, (), model=model, models=models)


def error_only(
    crosscoder: Crosscoder,
    layer: int,
    *,
    site: str = "resid_post",
    model: str = EDITED,
    models: tuple[str, ...] = COMPARED,
) -> LatentEdit:
    """Replace the residual by the dictionary's error about its mean."""
    return Dictionary(Site(layer, site), crosscoder, (), error=True, model=model, models=models)
