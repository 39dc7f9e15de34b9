"""The figure that the verdict is read from."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from interp.report.figures.marks import hollow_sign
from interp.report.inputs import Study
from interp.report.numbers import Estimate, number, read_estimate, real
from interp.report.palette import BAND_EDGE, INK, MODEL_COLOURS, REGION, Drawing, sheet, whiskers
from interp.report.text import figure_lines
from interp.report.verdict import arms_of, what_it_did

NET = "#6B46A8"


def reading(study: Study) -> Drawing | None:
    """Each arm's loss of accuracy, the part of it that is of the gain, and its controls' loss, with the bound."""
    arms = arms_of(study.verdict)
    own = {name: read_estimate(arm.get("own")) for name, arm in arms.items()}
    if not any(loss.value is not None for loss in own.values()):
        return None
    names = [figure_lines(what_it_did(study.verdict, name)) for name in arms]
    figure, (axes,) = sheet(1, 1, 9.2, 1.7 + sum(0.6 + 0.12 * name.count("\n") for name in names))
    bound = real(study.verdict.get("bound"))
    if bound is not None:
        axes.axvspan(-100 * bound, 100 * bound, color=REGION, zorder=0, label="within the bound")
    axes.axvline(0, color=INK, lw=0.9)
    gain = read_estimate(study.verdict.get("gain"))
    if gain.value is not None:
        axes.axvline(100 * gain.value, color=MODEL_COLOURS["distilled"], ls="--", lw=1.4, label="the whole gain")
    for row, (name, arm) in enumerate(arms.items()):
        _arm(axes, row, own[name], arm)
    axes.set_yticks(range(len(arms)), names)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel("Accuracy lost (percentage points; right is worse)")
    axes.grid(visible=False, axis="y")
    signs = _signs(any(arm.get("failed") for arm in arms.values()))
    handles = [*axes.get_legend_handles_labels()[0], *signs]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=1.6, columnspacing=1.6)
    listed = "; ".join(f"{what_it_did(study.verdict, name)}: {_points(loss)}" for name, loss in own.items())
    return Drawing(
        "reading",
        figure,
        f"Accuracy lost in points under each removal. {listed}.",
        "Accuracy that the distilled model loses under each removal (circle), the part of its gain over the base that "
        "is lost (square), both with 95 % intervals, and the mean loss under matched controls (diamond). Hollow: the "
        "arm failed a check, which is named, and its loss is not that of its claim. Where circle and square lie within "
        "the green band with their intervals, the reading is “no drop”.",
    )


def _arm(axes: Axes, row: int, own: Estimate, arm: dict[str, Any]) -> None:
    passed = not arm.get("failed")
    _loss(axes, row - 0.12, own, INK, "o", passed)
    _loss(axes, row + 0.1, read_estimate(arm.get("net")), NET, "s", passed)
    control = real(arm.get("control_drop"))
    if control is not None:
        axes.plot([100 * control], [row + 0.28], marker="d", ls="none", ms=7, color=BAND_EDGE)


def _loss(axes: Axes, y: float, loss: Estimate, colour: str, shape: str, passed: bool) -> None:
    if loss.value is None:
        return
    sides = whiskers(100 * loss.value, _times(loss.low), _times(loss.high))
    _, _, bars = axes.errorbar(
        [100 * loss.value], [y], xerr=sides, fmt=shape, ms=6, lw=2, color=colour, mfc=colour if passed else "white"
    )
    for bar in bars:
        bar.set_linestyle("-" if passed else ":")


def _signs(hollow: bool) -> list[Line2D]:
    signs = [
        Line2D([], [], color=INK, marker="o", lw=2, label="own loss"),
        Line2D([], [], color=NET, marker="s", lw=2, label="loss of the gain"),
        Line2D([], [], color=BAND_EDGE, marker="d", ls="none", label="controls' loss, mean"),
    ]
    return [*signs, hollow_sign()] if hollow else signs


def _points(loss: Estimate) -> str:
    if loss.value is None:
        return f"refused ({loss.refused})"
    return f"{number(100 * loss.value, 1)} [{number(_times(loss.low), 1)}, {number(_times(loss.high), 1)}]"


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value
