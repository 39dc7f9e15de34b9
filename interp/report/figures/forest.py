"""Forest plots: each effect of an edit with the band of its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from interp.names import EDITED
from interp.report.effects import FAMILIES, PLACE, apart, control_of, edited, effect_of, where
from interp.report.figures.marks import counted, hollow_sign
from interp.report.inputs import Study
from interp.report.numbers import metric
from interp.report.palette import BAND, BAND_EDGE, INK, MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, Drawing, sheet
from interp.report.text import figure_lines
from interp.report.verdict import what_it_did

OUTCOMES = ("accuracy", "marker_density", "verification_rate")
FOREST_ROWS = 30
"""Arms in one figure; the table has all."""

Key = tuple[Any, ...]
COLOUR, SHAPE = MODEL_COLOURS[EDITED], MODEL_SHAPES[EDITED]


def forest(study: Study) -> Drawing | None:
    """The arms that answer the question: style, function, both."""
    return _forest(study, ("style", "function", "both"), "forest", "Free-running generation under each removal")


def forest_latents(study: Study) -> Drawing | None:
    """Edits of the selected latents."""
    return _forest(study, ("latents",), "forest_latents", "Edits of the selected latents")


def _forest(study: Study, families: Sequence[str], name: str, what: str) -> Drawing | None:
    rows = edited(study.effects).filter(pl.col("family").is_in(families), pl.col("estimate").is_finite())
    outcomes = [o for o in OUTCOMES if o in rows["outcome"]]
    keys = [
        k for f in families for k in rows.filter(pl.col("family") == f).select(PLACE).unique(maintain_order=True).rows()
    ]
    if not outcomes or not keys:
        return None
    keys, left_out = keys[:FOREST_ROWS], max(0, len(keys) - FOREST_ROWS)
    slots = _slots(keys)
    names = [slot if isinstance(slot, str) else _label(slot, study) for slot in slots]
    longest = max(len(line) for name in names for line in name.splitlines())
    lines = sum(1 + 0.55 * name.count("\n") for name in names)
    figure, panels = sheet(
        1, len(outcomes), 0.9 + 0.082 * longest + 2.4 * len(outcomes), 1.3 + 0.36 * lines, sharey=True
    )
    by_place = {(*(r[c] for c in PLACE), r["outcome"]): r for r in rows.iter_rows(named=True)}
    for axes, outcome in zip(panels, outcomes, strict=True):
        for y, key in enumerate(slots):
            if isinstance(key, tuple) and (*key, outcome) in by_place:
                _effect(axes, y, by_place[(*key, outcome)])
        _forest_axes(axes, outcome, slots)
    panels[0].set_yticks(range(len(slots)), names)
    panels[0].set_ylim(len(slots) - 0.4, -0.6)
    for tick, slot in zip(panels[0].get_yticklabels(), slots, strict=True):
        tick.set_fontweight("bold" if isinstance(slot, str) else "normal")
    figure.legend(
        handles=_signs(not rows.select(counted().all()).item()),
        loc="outside upper left",
        ncols=5,
        handlelength=1.4,
    )
    beyond = [str(k[1]) for k in keys if _stands_out(by_place.get((*k, "accuracy")))]
    alt = f"{what}: change of {', '.join(metric(o).label for o in outcomes)} for {len(keys)} arms with their controls. "
    alt += f"Accuracy leaves the controls' band for: {', '.join(beyond) or 'none'}."
    caption = f"{what}: change against the untouched run with 95 % intervals, each with the band of its controls."
    caption += f" {left_out} more arms are in the tables." if left_out else ""
    return Drawing(name, figure, alt, caption)


def _slots(keys: Sequence[Key]) -> list[Key | str]:
    """The figure's lines: the arms, under a heading of each family where there are several."""
    several = len({key[0] for key in keys}) > 1
    slots: list[Key | str] = []
    for at, key in enumerate(keys):
        if several and (not at or key[0] != keys[at - 1][0]):
            slots.append(FAMILIES[key[0]][0])
        slots.append(key)
    return slots


def _effect(axes: Axes, y: float, row: dict[str, Any]) -> None:
    e, c, scale = effect_of(row), control_of(row), metric(row["outcome"]).scale
    if c.low is not None and c.high is not None:
        axes.barh(y, scale * (c.high - c.low), left=scale * c.low, height=0.56, color=BAND, lw=0)
    if c.value is not None:
        axes.plot([scale * c.value] * 2, [y - 0.28, y + 0.28], color=BAND_EDGE, lw=1.4)
    inside = row["coherent"] is not False
    if e.low is not None and e.high is not None:
        axes.plot([scale * e.low, scale * e.high], [y, y], color=COLOUR, lw=2, ls="-" if inside else ":")
    axes.plot([scale * (e.value or 0)], [y], SHAPE, ms=6, color=COLOUR, mfc=COLOUR if inside else "white")


def _forest_axes(axes: Axes, outcome: str, slots: Sequence[Key | str]) -> None:
    axes.axvline(0, color=INK, lw=0.9)
    axes.set_title(metric(outcome).label)
    axes.set_xlabel(f"Change ({metric(outcome).change})")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for y, slot in enumerate(slots):
        if isinstance(slot, str) and y:
            axes.axhline(y - 0.5, color=BAND_EDGE, lw=0.6)


def _label(key: Key, study: Study) -> str:
    place: dict[str, Any] = dict(zip(PLACE, key, strict=True))
    arm = what_it_did(study.verdict, place["arm"] or "")
    return figure_lines(", ".join(part for part in (arm, where(place)) if part))


def _signs(hollow: bool) -> list[Line2D | Patch]:
    signs: list[Line2D | Patch] = [
        Line2D([], [], color=COLOUR, marker=SHAPE, lw=2, label=MODEL_LABELS[EDITED]),
        Patch(color=BAND, label="controls, 95 %"),
    ]
    return [*signs, hollow_sign()] if hollow else signs


def _stands_out(row: dict[str, Any] | None) -> bool:
    return row is not None and row["coherent"] is not False and apart(effect_of(row), control_of(row))
