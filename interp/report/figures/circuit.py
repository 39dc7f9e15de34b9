"""The latents of the decision beside the sets that match them: at the place of decision, and in free-running text."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from interp.names import EDITED
from interp.report.figures.marks import band
from interp.report.inputs import Study
from interp.report.numbers import Estimate, metric, number, real, show
from interp.report.palette import BAND_EDGE, MODEL_COLOURS, Drawing, sheet, whiskers
from interp.report.text import figure_text

CLASS = "deciding"
SHOWN = ("verification_rate", "accuracy", "marker_density")
"""Outcomes of free-running text, a panel each."""
ARMS = {
    "at forks": f"{CLASS} latents set back at forks",
    "elsewhere": f"{CLASS} latents set back elsewhere",
}
"""Label to arm: where a check can begin, and everywhere else."""


def circuit(study: Study) -> Drawing | None:
    """What setting the deciding latents back does, teacher-forced and free-running, beside matched controls."""
    found: dict[str, Any] = study.circuit.get(CLASS) or {}
    controls = [value for value in map(real, found.get("controls") or []) if value is not None]
    onset, ablated = real(found.get("onset")), real(found.get("onset_ablated"))
    if onset is None or ablated is None or not controls:
        return None
    rows = study.effects.filter(
        pl.col("arm").is_in(list(ARMS.values())),
        pl.col("model") == EDITED,
        pl.col("decoding") == "sampled",
        pl.col("outcome").is_in(SHOWN),
        pl.col("estimate").is_finite(),
    )
    names = [name for name in SHOWN if name in rows["outcome"]]
    figure, panels = sheet(1, 1 + len(names), 4.6 + 2.4 * len(names), 3.4)
    _forced(panels[0], onset, ablated, controls)
    for axes, name in zip(panels[1:], names, strict=True):
        _free(axes, name, rows.filter(pl.col("outcome") == name))
    n = len(found.get("tried") or [])
    claim = f"{n} latent{'s' if n != 1 else ''}"
    alt = (
        f"Probability that a check begins after a wrong step: untouched {number(onset, 3)}, with {claim} set back "
        f"{number(ablated, 3)}, with {len(controls)} matched controls {number(min(controls), 3)} to "
        f"{number(max(controls), 3)}. {' '.join(_told(row) for row in rows.iter_rows(named=True))}"
    )
    caption = (
        "Left: the probability that a check begins after a wrong step, on problems on which no latent was chosen, with "
        f"{claim} set back at that position, beside {len(controls)} controls (grey): as many other latents that fire "
        "there as often and move the residual as far, or, where none do, the same change along the decoders of others. "
        "Right: changes in free-running text of held-back problems, with "
        "95 % intervals over problems; grey: the controls' central 95 %. Elsewhere: the same latents set back "
        "everywhere but where a check can begin."
    )
    return Drawing("circuit", figure, alt, caption)


def _forced(axes: Axes, onset: float, ablated: float, controls: list[float]) -> None:
    colour = MODEL_COLOURS[EDITED]
    spread = np.linspace(-0.24, 0.24, len(controls))  # side by side, so that equal ones can be counted
    axes.scatter(1 + spread, controls, s=9, color=BAND_EDGE, lw=0, zorder=2)
    for x, value in ((0, onset), (2, ablated)):
        axes.bar(x, value, width=0.6, color=colour, alpha=0.22, lw=0)
        axes.plot([x], [value], "D", ms=6.5, color=colour, clip_on=False)
        axes.annotate(number(value, 3), (x, value), (8, 3), textcoords="offset points")
    axes.set_xticks([0, 1, 2], ["untouched", f"{len(controls)}\nmatched\ncontrols", "deciding\nlatents"])
    axes.set_xlim(-0.55, 2.75)
    axes.set_ylim(0, 1.04)
    axes.set_title("P(a check begins | wrong step)")
    axes.grid(visible=False, axis="x")


def _free(axes: Axes, name: str, rows: pl.DataFrame) -> None:
    kind, colour = metric(name), MODEL_COLOURS[EDITED]
    axes.axhline(0, color=BAND_EDGE, lw=0.8)
    for x, (_, arm) in enumerate(ARMS.items()):
        for row in rows.filter(pl.col("arm") == arm).head(1).iter_rows(named=True):
            band(axes, x, 0.34, row, kind.scale)
            e = Estimate(row["estimate"], real(row["low"]), real(row["high"]))
            scaled = [None if v is None else kind.scale * v for v in (e.value, e.low, e.high)]
            assert scaled[0] is not None  # for the type checker: the rows are finite
            axes.errorbar([x], [scaled[0]], yerr=whiskers(scaled[0], *scaled[1:]), fmt="D", ms=6, lw=2, color=colour)
    axes.set_xticks(range(len(ARMS)), [figure_text(label) for label in ARMS])
    axes.set_xlim(-0.6, len(ARMS) - 0.4)
    axes.set_title(f"{kind.label} ({kind.change})")
    axes.grid(visible=False, axis="x")


def _told(row: dict[str, Any]) -> str:
    kind = metric(row["outcome"])
    shown = show(Estimate(row["estimate"], real(row["low"]), real(row["high"])), kind, signed=True)
    return f"{row['arm']}: {kind.label} {shown.value} {shown.interval} {kind.change}."
