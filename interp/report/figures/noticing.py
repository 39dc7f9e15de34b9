"""Does a model notice an error: what it does after a wrong step, beside what it does after a right one."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from interp.report.inputs import Study
from interp.report.noticing import estimates
from interp.report.numbers import METRICS, Estimate, number
from interp.report.palette import BAND_EDGE, MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, Drawing, sheet, whiskers

PANELS = (
    ("Begins to check (%)", ("checks_wrong", "checks_right")),
    ("Mends the wrong step (%)", ("repaired",)),
    ("Right answer (%)", ("correct_wrong", "correct_right")),
)
"""Title of each panel, and what is drawn side by side in it: after the wrong step, after the right one."""


def noticing(study: Study) -> Drawing | None:
    """Checks, repairs and right answers of each model after an injected error and after the untouched step."""
    found = estimates(study)
    names = [name for _, pair in PANELS for name in pair]
    if not any(measured[name].value is not None for measured in found.values() for name in names):
        return None
    figure, panels = sheet(1, len(PANELS), 3.4 * len(PANELS), 3.2, sharey=True)
    for axes, (title, pair) in zip(panels, PANELS, strict=True):
        width = 0.66 / len(pair)
        for at, (model, measured) in enumerate(found.items()):
            for i, name in enumerate(pair):
                _bar(axes, at + (i - (len(pair) - 1) / 2) * (width + 0.06), width, model, measured[name], tinted=not i)
        axes.set_title(title)
        axes.set_xticks(range(len(found)), [MODEL_LABELS[model] for model in found])
        axes.set_xlim(-0.6, len(found) - 0.4)
        axes.grid(visible=False, axis="x")
    panels[0].set_ylim(0, 103)
    signs = [
        Patch(facecolor=BAND_EDGE, alpha=0.35, label="after the wrong step"),
        Patch(facecolor="white", edgecolor=BAND_EDGE, label="after the right step"),
    ]
    figure.legend(handles=signs, loc="outside upper left", ncols=2)
    listed = (
        f"{METRICS[name].label}: {', '.join(f'{MODEL_LABELS[m]} {_percent(e[name])}' for m, e in found.items())}"
        for name in names
    )
    caption = (
        "What each model does after an error in a right step of its own text (tinted), and after the untouched step "
        "(outlined), with 95 % intervals over problems. A missing point was not measured."
    )
    return Drawing("noticing", figure, f"Shares in percent. {'. '.join(listed)}.", caption)


def _bar(axes: Axes, x: float, width: float, model: str, e: Estimate, *, tinted: bool) -> None:
    if e.value is None:
        return
    colour = MODEL_COLOURS[model]
    if tinted:
        axes.bar(x, 100 * e.value, width=width, color=colour, alpha=0.22, lw=0)
    else:
        axes.bar(x, 100 * e.value, width=width, fill=False, edgecolor=colour, lw=1, alpha=0.7)
    sides = whiskers(100 * e.value, *(None if edge is None else 100 * edge for edge in (e.low, e.high)))
    axes.errorbar([x], [100 * e.value], yerr=sides, fmt=MODEL_SHAPES[model], ms=5.5, lw=2, color=colour, clip_on=False)


def _percent(e: Estimate) -> str:
    return number(None if e.value is None else 100 * e.value, 1)
