"""The figure of the calibration: what was said of which truth, how often it was right in each world, and with how many
problems."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from interp.calibration.power import SIZES
from interp.calibration.rates import CIRCUIT, FAILED, TEXT, rates
from interp.causal.verdict import UNDETERMINED
from interp.organisms.kinds import KINDS
from interp.report.palette import INK, Drawing, sheet, whiskers
from interp.report.reliability import ALL

SAID = {"right": "#009E73", "undetermined": "#C9CDD6", "wrong": "#D55E00", "failed": "#4D4D4D"}
"""What a verdict was, to its colour."""
NAMES = {TEXT: "by text", CIRCUIT: "through the circuit"}
SHAPES, COLOURS = {TEXT: "o", CIRCUIT: "D"}, {TEXT: INK, CIRCUIT: "#0072B2"}
SHOWN = {
    "given": "verdict given",
    "right among given": "right among given",
    "false 'stylistic'": "false “stylistic”",
    "false 'functional'": "false “functional”",
}
"""Rates of the middle panel."""


def calibration(table: pl.DataFrame, problems: int) -> Drawing:
    """Draw the published readings, each from `problems` problems."""
    truths = [truth for truth in dict.fromkeys(kind.truth for kind in KINDS.values()) if truth in set(table["truth"])]
    found = rates(table)
    worlds = sorted(set(table["world"]))
    height = 1.6 + max(0.62 * len(truths), 0.36 * len(SHOWN) * (len(worlds) + 1))
    figure, (said, shares, power) = sheet(1, 3, 13.5, height, width_ratios=[1.25, 1.1, 0.85])
    _said(said, table, truths)
    _shares(shares, found, [ALL, *worlds])
    _power(power, table, problems)
    handles = [Patch(color=colour, label=name) for name, colour in SAID.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.2)
    lines = [f"{r['rate']} ({NAMES[r['instrument']]}): {r['count']} of {r['of']}" for r in _rows(found, ALL)]
    return Drawing(
        "calibration",
        figure,
        f"Verdicts on {len(table)} organisms of known truth. {'; '.join(lines)}.",
        "Left: what was said of the organisms of each truth, by edits of text (upper bar) and through the circuit "
        "(lower bar). Middle: shares with exact 95 % intervals, of all and of each world. Right: share of organisms "
        "whose verdict is right, from fewer problems of the same runs.",
    )


def _said(axes: Axes, table: pl.DataFrame, truths: Sequence[str]) -> None:
    widest = max(table["truth"].value_counts()["count"])
    for row, truth in enumerate(truths):
        mine = table.filter(truth=truth)
        for instrument, shift in ((TEXT, -0.2), (CIRCUIT, 0.2)):
            left = 0
            for name, n in _counts(mine[instrument].fill_null(FAILED).to_list(), truth).items():
                axes.barh(row + shift, n, 0.34, left=left, color=SAID[name])
                if n > widest / 40:
                    axes.text(left + n / 2, row + shift, str(n), ha="center", va="center", fontsize=8)
                left += n
    axes.set_yticks(range(len(truths)), [truth.replace(", ", ",\n").replace(" beyond", "\nbeyond") for truth in truths])
    axes.set_ylim(len(truths) - 0.5, -0.5)
    axes.set_xlabel("Organisms")
    axes.set_title("What was said, by truth")
    axes.grid(visible=False, axis="y")


def _counts(words: Sequence[str], truth: str) -> dict[str, int]:
    kinds = ["right" if w == truth else w if w in (UNDETERMINED, FAILED) else "wrong" for w in words]
    return {name: kinds.count(name) for name in SAID}


def _rows(found: pl.DataFrame, world: str) -> list[dict]:
    mine = found.filter(pl.col("rate").is_in(list(SHOWN)), pl.col("instrument").is_in([TEXT, CIRCUIT]), world=world)
    return list(mine.iter_rows(named=True))


def _shares(axes: Axes, found: pl.DataFrame, worlds: Sequence[str]) -> None:
    places, labels = [], []
    for i, (rate, name) in enumerate(SHOWN.items()):
        for j, world in enumerate(worlds):
            y = i * (len(worlds) + 0.8) + j
            places.append(y)
            labels.append(f"{name}, all" if world == ALL else world)
            for row in _rows(found, world):
                if row["rate"] != rate or not row["of"]:
                    continue
                instrument = row["instrument"]
                at = y + (-0.15 if instrument == TEXT else 0.15)
                _point(axes, row, instrument, x=100 * row["share"], y=at, label=None if i or j else NAMES[instrument])
    axes.set_yticks(places, labels, fontsize=9)
    axes.set_ylim(max(places) + 0.8, -0.8)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("Per cent of organisms")
    axes.set_title("Shares with 95 % intervals")
    axes.legend(loc="center", fontsize=9)


def _point(axes: Axes, row: dict, instrument: str, *, x: float, y: float, label: str | None) -> None:
    sides = whiskers(x, 100 * row["low"], 100 * row["high"])
    axes.errorbar([x], [y], xerr=sides, fmt=SHAPES[instrument], color=COLOURS[instrument], ms=4.5, lw=1.4, label=label)


def _power(axes: Axes, table: pl.DataFrame, problems: int) -> None:
    for instrument in (TEXT, CIRCUIT):
        columns = {n: f"{instrument}_{n}" for n in SIZES} | {problems: instrument}
        right = [100 * len(table.filter(pl.col(column) == pl.col("truth"))) / len(table) for column in columns.values()]
        axes.plot(list(columns), right, marker=SHAPES[instrument], color=COLOURS[instrument], label=NAMES[instrument])
    axes.set_xscale("log", base=2)
    axes.set_xticks([*SIZES, problems], [str(n) for n in (*SIZES, problems)])
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    axes.set_xlabel("Problems")
    axes.set_ylabel("Per cent right")
    axes.set_title("Power")
