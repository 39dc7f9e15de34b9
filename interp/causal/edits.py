"""Edits of a residual while a model generates: latents scaled with the error term kept, and directions added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.crosscoder import Crosscoder


class ResidualEdit(Protocol):
    """A change of one model's residual."""

    def delta(
        self, x: Float[Tensor, "rows models d_model"], copy: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d_model"]:
        """The change, given all models' residuals at the same positions and the copy each row belongs to."""
        ...


@dataclass(frozen=True)
class ScaleLatents:
    """h ← h + Σ_{j∈S} (f'_j - f_j) d_mj with f' = factor · f: 0 ablates, 1 is the identity, 3 amplifies.

    The error term is untouched, because only the difference of two reconstructions is added.
    """

    crosscoder: Crosscoder
    slot: int
    """Which of the crosscoder's models is edited."""
    latents: Int[Tensor, " union"]
    """Every latent that some copy edits."""
    factors: Float[Tensor, "copies union"]
    """Factor of each latent's activation, for each copy."""

    def delta(
        self, x: Float[Tensor, "rows models d_model"], copy: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d_model"]:
        f = self.crosscoder.encode(x, self.latents)
        change = (self.factors[copy] - 1) * f
        return change @ self.crosscoder.decoder_in_input_units()[self.latents, self.slot]


@dataclass(frozen=True)
class AddDirection:
    """h ← h + v, one vector a copy; a copy whose vector is 0 is untouched."""

    vectors: Float[Tensor, "copies d_model"]

    def delta(
        self, x: Float[Tensor, "rows models d_model"], copy: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d_model"]:
        return self.vectors[copy]


@dataclass(frozen=True)
class ReconstructionOnly:
    """h ← x̂, the reconstruction; or, with `keep_error`, h ← mean + (h - x̂), the error alone."""

    crosscoder: Crosscoder
    slot: int
    keep_error: bool

    def delta(
        self, x: Float[Tensor, "rows models d_model"], copy: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d_model"]:
        reconstruction = self.crosscoder.decode(self.crosscoder.encode(x))[:, self.slot]
        if self.keep_error:
            return self.crosscoder.mean[self.slot] - reconstruction
        return reconstruction - x[:, self.slot]


def scale_sets(
    crosscoder: Crosscoder, slot: int, sets: list[list[int]], factor: float, *, untouched_first: bool = True
) -> ScaleLatents:
    """One copy a set of latents, after an untouched copy 0."""
    union = sorted({j for chosen in sets for j in chosen})
    place = {j: i for i, j in enumerate(union)}
    factors = torch.ones(len(sets) + untouched_first, len(union))
    for i, chosen in enumerate(sets):
        factors[i + untouched_first, [place[j] for j in chosen]] = factor
    device = crosscoder.W_dec.device
    return ScaleLatents(crosscoder, slot, torch.tensor(union, dtype=torch.long, device=device), factors.to(device))
