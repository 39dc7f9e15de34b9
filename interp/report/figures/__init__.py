"""The report's figures: each takes a study and gives a drawing, or None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable

from interp.report.figures import (
    circuit,
    crosscoder,
    forest,
    heads,
    latents,
    models,
    noticing,
    patching,
    path,
    reading,
    sites,
    steering,
)
from interp.report.inputs import Study
from interp.report.palette import Drawing

FIGURES: tuple[Callable[[Study], Drawing | None], ...] = (
    reading.reading,
    noticing.noticing,
    circuit.circuit,
    path.path,
    models.outcomes,
    models.training,
    sites.sites,
    crosscoder.curves,
    crosscoder.specificity,
    crosscoder.scaling,
    latents.cosines,
    latents.reweighting,
    latents.behaviours,
    forest.forest,
    forest.forest_latents,
    patching.patching,
    heads.heads,
    steering.steering,
)
