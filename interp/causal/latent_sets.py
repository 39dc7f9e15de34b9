"""Arms that edit latents while the model writes: ablation and amplification, with matched random latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from interp.causal.controls import matched_latents
from interp.names import BEHAVIOURS


@dataclass(frozen=True)
class LatentArm:
    """A set of latents, the factor of their activations, and control sets of the same size."""

    name: str
    latents: list[int]
    factor: float
    controls: list[list[int]]


def selected_latents(latents: pl.DataFrame, most: int) -> Mapping[str, list[int]]:
    """Behaviour to its confirmed latents, at most `most`, highest AUROC on the confirmation half first. Behaviours
    without one are absent."""
    chosen = {}
    for b in BEHAVIOURS:
        rows = latents.filter(pl.col(f"confirmed_{b}")).sort(f"auroc_confirm_{b}", descending=True).head(most)
        if len(rows):
            chosen[b] = rows["latent"].to_list()
    return chosen


def latent_arms(
    latents: pl.DataFrame, chosen: Mapping[str, Sequence[int]], amplify: float, draws: int, seed: int
) -> list[LatentArm]:
    """Ablation and amplification of each behaviour's latents."""
    firing, norm = latents["firing_rate"].to_numpy(), latents["decoder_norm"].to_numpy()
    everything = sorted({j for group in chosen.values() for j in group})
    rng, arms = np.random.default_rng(seed), []
    for b, group in chosen.items():
        # No selected latent of any behaviour may be a control of another.
        controls = matched_latents(list(group), _without(firing, everything, group), norm, draws, rng)
        arms.append(LatentArm(f"ablate {b} latents", list(group), 0.0, controls))
        arms.append(LatentArm(f"amplify {b} latents", list(group), amplify, controls))
    return arms


def _without(firing: np.ndarray, everything: Sequence[int], group: Sequence[int]) -> np.ndarray:
    masked = firing.copy()
    masked[[j for j in everything if j not in set(group)]] = 0.0
    return masked
