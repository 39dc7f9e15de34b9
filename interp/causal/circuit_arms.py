"""Arms on the latents of a decision: set to zero where a check can begin, beside sets that are matched there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from interp.causal.arms import Arm
from interp.causal.edits.base import Edit
from interp.causal.edits.latents import Scale
from interp.causal.places import FORKS, Places
from interp.causal.study_arms import Sizes
from interp.features.matched import matched_latents

SERIES = (1, 2, 4, 8, 16)
"""Sizes of the sets that show how the effect grows, in the order of the exact effects."""


def circuit_arms(
    name: str,
    edit: Scale,
    order: Sequence[int],
    everywhere: Places,
    firing: Float[np.ndarray, " latents"],
    size: Float[np.ndarray, " latents"],
    sizes: Sizes,
    problems: int,
) -> list[Arm]:
    """The class `name`'s latents set to zero at forks, beside matched sets; everywhere and everywhere but at forks,
    which tell whether the place matters; and the first 1, 2, 4, ... of `order` at forks.

    Args:
        edit: the ablation of the claimed latents.
        order: the latents of the class, the largest exact effect first.
        everywhere: the positions at which the dictionary is read at all.
        firing, size: of every latent at the forks of the edited model's texts, as for `matched_latents`.
    """
    drawn = matched_latents(edit.latents, firing, size, sizes.draws, sizes.seed, never=edit.latents)
    at_forks = everywhere & FORKS

    def ablated(latents: Sequence[int], where: Places) -> Edit:
        return replace(edit, latents=tuple(latents), where=where)

    main = _arm(
        f"{name} latents to zero at forks",
        ablated(edit.latents, at_forks),
        edit,
        problems,
        controls=tuple(ablated(chosen, at_forks) for chosen in drawn.draws),
        control_name=f"{len(edit.latents)} matched latents at forks",
        control_problems=sizes.control_problems,
        note=drawn.note,
    )
    elsewhere = [
        _arm(f"{name} latents to zero {says}", ablated(edit.latents, where), edit, problems)
        for says, where in (("everywhere", everywhere), ("elsewhere", everywhere & ~FORKS))
    ]
    series = [
        _arm(f"first {k} {name} latents to zero at forks", ablated(order[:k], at_forks), edit, problems)
        for k in SERIES
        if k <= len(order) and k != len(edit.latents)
    ]
    return [main, *elsewhere, *series]


def _arm(name: str, ablation: Edit, edit: Scale, problems: int, **given: object) -> Arm:
    known = {"control_name": "none: it is a control itself"} | given
    return Arm(name, ablation, family="circuit", problems=problems, site=edit.site.name, layer=edit.site.layer, **known)  # type: ignore[arg-type]
