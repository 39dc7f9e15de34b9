"""The figure that the verdict is read from."""

from __future__ import annotations

from matplotlib.axes import Axes

from interp.report.inputs import Study
from interp.report.numbers import Estimate, number, read_estimate, real
from interp.report.palette import BAND_EDGE, INK, MODEL_COLOURS, REGION, Drawing, model_legend, sheet, whiskers
from interp.report.text import figure_text


def reading(study: Study) -> Drawing | None:
    """Each arm's accuracy lost beyond its controls, with the equivalence bound and the controls' own loss."""
    arms = {name: arm for name, arm in (study.verdict.get("arms") or {}).items() if isinstance(arm, dict)}
    drops = {name: read_estimate(arm.get("drop")) for name, arm in arms.items()}
    if not any(drop.value is not None for drop in drops.values()):
        return None
    figure, (axes,) = sheet(1, 1, 8.6, 1.5 + 0.5 * len(arms))
    bound = real(study.verdict.get("bound"))
    if bound is not None:
        axes.axvspan(-100 * bound, 100 * bound, color=REGION, zorder=0, label="no drop: within the bound")
    axes.axvline(0, color=INK, lw=0.9)
    gain = read_estimate(study.verdict.get("gain"))
    if gain.value is not None:
        axes.axvline(100 * gain.value, color=MODEL_COLOURS["distilled"], ls="--", lw=1.4, label="the whole gain")
    for row, (name, drop) in enumerate(drops.items()):
        _drop(axes, row, drop, real(arms[name].get("control_drop")))
    axes.set_yticks(range(len(arms)), [figure_text(name) for name in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel("Accuracy lost beyond matched controls (percentage points; right is worse)")
    axes.grid(visible=False, axis="y")
    model_legend(figure, axes, 4)
    listed = "; ".join(f"{name}: {_points(drop)}" for name, drop in drops.items())
    return Drawing(
        "reading",
        figure,
        f"Accuracy lost in points beyond matched controls. {listed}.",
        "Accuracy lost by each removal beyond matched controls, with its 95 % interval: the controls' own mean loss "
        "(diamond) is already subtracted. An interval inside the green band is “no drop”.",
    )


def _drop(axes: Axes, row: int, drop: Estimate, control: float | None) -> None:
    if drop.value is not None:
        axes.errorbar(
            [100 * drop.value],
            [row],
            xerr=_percent(whiskers(drop.value, drop.low, drop.high)),
            fmt="o",
            ms=7,
            lw=2.2,
            color=INK,
            label=None if row else "beyond controls, 95 % interval",
        )
    if control is not None:
        axes.plot(
            [100 * control],
            [row + 0.22],
            marker="d",
            ls="none",
            ms=7,
            color=BAND_EDGE,
            label=None if row else "controls' own loss, mean",
        )


def _percent(sides: tuple | None) -> list[list[float]] | None:
    return None if sides is None else [[100 * v for v in side] for side in sides]


def _points(drop: Estimate) -> str:
    if drop.value is None:
        return f"refused ({drop.refused})"
    return f"{number(100 * drop.value, 1)} [{number(_times(drop.low), 1)}, {number(_times(drop.high), 1)}]"


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value
