"""The arms of steering: doses of a direction, its removal, and its addition in base, each beside random directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from interp.causal.arms import Arm
from interp.causal.edits import ResidualEdit
from interp.causal.places import FORKS, Places, after_first
from interp.causal.steering import Direction
from interp.config import SteeringConfig
from interp.directions import random_in_covariance, random_like
from interp.errors import InterpError

NORM, COVARIANCE = "random directions, same norm", "random directions, same covariance"
"""Names of the two kinds of controls."""
PLACES: dict[str, Callable[[int], Places]] = {"everywhere": after_first, "forks": lambda _skip: FORKS}
"""`steering.where` to the places, given how many positions are left out at the start."""


@dataclass(frozen=True)
class Controls:
    """Random directions with the norm of one: first those of the sphere, then those of the residual's covariance. Draw
    i is the same direction at every dose and place."""

    drawn: tuple[Direction, ...]
    same_norm: int
    """Number of those of the sphere."""
    problems: int
    """Of every draw."""

    @classmethod
    def of(
        cls, direction: Direction, rows: Float[Tensor, "rows d_model"], section: SteeringConfig, seed: int
    ) -> Controls:
        """The draws that the section asks for; `rows` are residuals at the direction's site."""
        sphere = random_like(direction, section.controls, seed)
        # Another seed: else both kinds would begin with the same normal numbers.
        spread = random_in_covariance(direction, rows, section.covariance_controls, seed + 1)
        return cls(tuple(map(Direction.of, [*sphere, *spread])), section.controls, section.control_problems)

    def beside(self, arm: Arm, edit: Callable[[Direction], ResidualEdit]) -> Arm:
        """The arm with the same edit of every draw."""
        whole = arm.with_controls(*map(edit, self.drawn), name=NORM)
        return replace(whole, control_problems=self.problems)


def dose_name(dose: float, where: str) -> str:
    """Name of a dose's arm."""
    return f"add {dose:+g} {where}"


def dose_arms(
    direction: Direction, doses: Sequence[float], where: str, models: tuple[str, ...], skip: int, controls: Controls
) -> list[Arm]:
    """One arm a dose but for 0, which is the untouched run; on all models, the first with the controls. A dose above 0
    points along the direction.

    Raises:
        InterpError: the direction does not state the residual's norm, the unit of a dose.
    """
    places = PLACES[where](skip)
    arms = []
    for dose in sorted(d for d in doses if d):

        def add(one: Direction, dose: float = dose) -> ResidualEdit:
            return one.add(dose, label="the direction").at(places)

        arm = Arm(
            dose_name(dose, where),
            add(direction),
            family="steering",
            models=models,
            site=direction.site,
            layer=direction.layer,
            dose=dose,
        )
        arms.append(controls.beside(arm, add))
    return arms


def ablation_arms(
    direction: Direction,
    where: str,
    removed: Sequence[str],
    added: Sequence[str],
    dose: float | None,
    skip: int,
    controls: Controls,
) -> list[Arm]:
    """The direction projected out of each model of `removed`, and added in each of `added` in a dose (None: its own
    norm); each model has its own controls, since each has its own untouched texts."""
    places, norm = PLACES[where](skip), direction.provenance.residual_norm
    if not norm:
        raise InterpError(f"{direction.hook_name}: the direction does not state the residual's mean norm")
    strength = direction.norm / norm if dose is None else dose

    def project(one: Direction) -> ResidualEdit:
        return one.project_out(label="the direction").at(places)

    def add(one: Direction) -> ResidualEdit:
        return one.add(strength, label="the direction").at(places)

    arms = []
    for family, models, edit, name, given in (
        ("ablation", removed, project, "project out of", None),
        ("addition", added, add, f"add {strength:+.3g} in", strength),
    ):
        for model in models:
            arm = Arm(
                f"{name} {model} {where}",
                edit(direction),
                family=family,
                models=(model,),
                site=direction.site,
                layer=direction.layer,
                dose=given,
            )
            arms.append(controls.beside(arm, edit))
    return arms
