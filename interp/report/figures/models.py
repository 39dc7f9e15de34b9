"""Figures of the models: the outcomes side by side, the training curves."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes

from interp.report.inputs import Study
from interp.report.numbers import Estimate, metric, number
from interp.report.palette import BAND_EDGE, MODEL_COLOURS, MODEL_LABELS, MODEL_SHAPES, Drawing, sheet, whiskers
from interp.report.summary import estimates

OUTCOMES = ("accuracy", "marker_density", "verification_rate")


def outcomes(study: Study) -> Drawing | None:
    """Accuracy, style and verification of each model, measured apart."""
    found = estimates(study)
    shown = [name for name in OUTCOMES if any(found[m][name].value is not None for m in study.models if m in found)]
    if not shown:
        return None
    figure, panels = sheet(1, len(shown), 3.2 * len(shown), 3.1)
    sentences = []
    for axes, name in zip(panels, shown, strict=True):
        kind = metric(name)
        values = {model: found[model][name] for model in study.models}
        for at, (model, e) in enumerate(values.items()):
            _bar(axes, at, model, e, kind.scale)
        axes.set_title(f"{kind.label} ({kind.unit})")
        axes.set_xticks(range(len(values)), [MODEL_LABELS[m] for m in values])
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        listed = (f"{MODEL_LABELS[m]} {number(_scaled(e.value, kind.scale), 2)}" for m, e in values.items())
        sentences.append(f"{kind.label} ({kind.unit}): {', '.join(listed)}")
    caption = (
        "Performance, style and function, measured apart; bars are 95 % intervals over problems. "
        "A missing point was refused; the table says why."
    )
    return Drawing("models", figure, f"{'. '.join(sentences)}.", caption)


def _bar(axes: Axes, at: int, model: str, e: Estimate, scale: float) -> None:
    if e.value is None:
        axes.annotate(
            "refused",
            (at, 0),
            (0, 4),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=9,
            color=BAND_EDGE,
        )
        return
    sides = whiskers(e.value, e.low, e.high)
    axes.bar(at, scale * e.value, width=0.62, color=MODEL_COLOURS[model], alpha=0.22, linewidth=0)
    axes.errorbar(
        [at],
        [scale * e.value],
        yerr=None if sides is None else [[scale * v for v in side] for side in sides],
        fmt=MODEL_SHAPES[model],
        ms=6,
        lw=2.2,
        color=MODEL_COLOURS[model],
    )


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def training(study: Study) -> Drawing | None:
    """How the checkpoints were made."""
    return training_curves(study.training)


def training_curves(table: pl.DataFrame) -> Drawing | None:
    """Loss and reward over steps, of a table (model, step, metric, value)."""
    rows = table.drop_nulls(["model", "step", "metric", "value"])
    names = [name for name in ("loss", "reward") if name in rows["metric"]]
    if not names:
        return None
    figure, panels = sheet(1, len(names), 4.8 * len(names), 3.0)
    for axes, name in zip(panels, names, strict=True):
        for model in MODEL_COLOURS:
            curve = rows.filter(pl.col("metric") == name, pl.col("model") == model).sort("step")
            if curve.height:
                axes.plot(curve["step"], curve["value"], color=MODEL_COLOURS[model], label=MODEL_LABELS[model])
        axes.set_title({"loss": "Loss (nats per token)", "reward": "Reward (share of rollouts)"}[name])
        axes.set_xlabel("Optimiser step")
        axes.legend()
    alt = f"Curves of {' and '.join(names)} over training steps for {', '.join(rows['model'].unique().sort())}."
    return Drawing("training", figure, alt, "Training of the checkpoints, as each trainer logged it.")
