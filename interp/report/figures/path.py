"""How the decision comes to its site: the components' direct effects, and where the heads that matter look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from interp.names import EDITED
from interp.report.inputs import Study
from interp.report.numbers import number
from interp.report.palette import BAND_EDGE, MODEL_COLOURS, Drawing, sheet

CLASSES = ("deciding", "wording", "executing")
SIDES = {"attention": "+", "attention_negative": "−"}
"""Column to the sign of its side."""
MOST = 12
"""Components that are drawn."""


def path(study: Study) -> Drawing | None:
    """The largest direct effects, and the attention of the heads among them, of the first class that has any."""
    name = next((name for name in CLASSES if len(study.path.filter(pl.col("class") == name))), None)
    if name is None:
        return None
    rows = study.path.filter(pl.col("class") == name, pl.col("effect").is_finite()).sort("effect", descending=True)
    shown = rows.head(MOST)
    looked = [row for row in rows.iter_rows(named=True) if row["attention"] and row["attention_negative"]]
    height = max(0.9 + 0.28 * len(shown), 1.4 + 0.55 * len(looked))
    figure, axes = sheet(1, 2 if looked else 1, 10.4 if looked else 5.2, height)
    bars = axes[0]
    labels = [_label(row) for row in shown.iter_rows(named=True)]
    bars.barh(range(len(shown)), shown["effect"], color=MODEL_COLOURS[EDITED], alpha=0.75, height=0.7)
    bars.set_yticks(range(len(shown)), labels)
    bars.invert_yaxis()
    bars.axvline(0, color=BAND_EDGE, lw=0.8)
    bars.set_xlabel("fall of the margin, nats")
    bars.set_title("Direct effect on the decision")
    bars.grid(visible=False, axis="y")
    if looked:
        _attention(axes[1], looked)
    told = "; ".join(f"{_label(row)} {number(row['effect'], 1)}" for row in shown.head(5).iter_rows(named=True))
    heads = " ".join(_told(row) for row in looked)
    alt = f"Direct effects of the {name} contrast at its site, nats: {told}. {heads}"
    caption = (
        "Left: how far the margin falls when one component’s part of the residual at the site is that of the negative "
        "side, all other paths being held fixed. Right: the mean attention of the heads with the largest effect, from "
        "the place of decision to all earlier tokens together (…) and to the last ones, on the positive (+) and on the "
        "negative side (−); the tokens’ spelling is of one example."
    )
    return Drawing("path", figure, alt, caption)


def _label(row: Mapping[str, Any]) -> str:
    if row["component"] == "embedding":
        return "embedding"
    return f"head {row['layer']}.{row['head']}" if row["component"] == "head" else f"MLP {row['layer']}"


def _attention(axes: Axes, looked: Sequence[Mapping[str, Any]]) -> None:
    weights = np.array([row[side] for row in looked for side in SIDES])
    tokens = [str(token).strip() or "·" for token in looked[0]["tokens"] or []]
    shown = weights.shape[1] - 1
    axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(weights)), [f"{_label(row)} {sign}" for row in looked for sign in SIDES.values()])
    axes.set_xticks(range(shown + 1), ["…", *["·"] * (shown - len(tokens)), *tokens[-shown:]])
    for i, row in enumerate(weights):
        for j, value in enumerate(row):
            if value >= 0.1:
                axes.text(j, i, number(value, 2), ha="center", va="center", color="white" if value > 0.5 else "black")
    axes.set_title("Where these heads look")
    axes.grid(visible=False)


def _told(row: Mapping[str, Any]) -> str:
    return (
        f"{_label(row)} looks most {_most(row['attention'])}, on the negative side {_most(row['attention_negative'])}."
    )


def _most(weights: Sequence[float]) -> str:
    best = int(np.argmax(weights))
    back = len(weights) - 1 - best
    where = "at earlier tokens" if best == 0 else "at the place itself" if back == 0 else f"{back} before it"
    return f"{where} ({number(weights[best], 2)})"
