"""Where the decision can be read: probes and patches at every site, in the order of computation."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from interp.names import EDITED
from interp.report.figures.marks import PANELS
from interp.report.inputs import Study
from interp.report.numbers import number, real
from interp.report.palette import (
    BAND_EDGE,
    FAINT,
    INK,
    MODEL_COLOURS,
    MODEL_LABELS,
    MODEL_SHAPES,
    SITE_COLOURS,
    Drawing,
    sheet,
)
from interp.report.sites import hook, scanned
from interp.report.text import figure_text

Place = tuple[int, str]
LEAST, MOST = -0.25, 1.25
"""Shares outside are drawn at these edges."""
NAMED = 16
"""Sites up to which each is named at the axis; beyond it only blocks are."""
PATCHES = {"noising": (SITE_COLOURS[0], "-o"), "denoising": (SITE_COLOURS[1], "--s")}
"""Colour, line and shape of each direction of a patch."""
STREAM = ("resid_mid", "resid_post")
"""Sites that a line joins; what attention and MLP add to them is points, or the line would jump at every site."""


def sites(study: Study) -> Drawing | None:
    """A line of panels per contrast: each model's held-out AUROC at every site, and what the edited model's patches
    carry."""
    rows = scanned(study)
    contrasts = _read(rows)["contrast"].unique(maintain_order=True).to_list()[:PANELS]
    if not contrasts:
        return None
    rows = rows.filter(pl.col("contrast").is_in(contrasts))
    places: list[Place] = rows.select("layer", "site").unique(maintain_order=True).rows()
    shares = _shares(rows)
    columns = 2 if shares.height else 1
    figure, panels = sheet(
        len(contrasts), columns, 5.2 * columns, 1.5 + 2.3 * len(contrasts), sharex=True, sharey="col"
    )
    for i, contrast in enumerate(contrasts):
        axes, own = panels[columns * i], pl.col("contrast") == contrast
        _aurocs(axes, rows.filter(own), study.models, places)
        axes.set_title(figure_text(f"{contrast}{_size(rows.filter(own))}"))
        axes.set_ylabel("Held-out AUROC")
        if columns == 2:
            beside = panels[columns * i + 1]
            _patches(beside, shares.filter(own), places)
            beside.set_title(figure_text(f"{contrast}: patches of {MODEL_LABELS[EDITED]}"))
            beside.set_ylabel("Share of the margin")
    panels[0].set_ylim(_lowest(rows) - 0.03, 1.03)
    for axes in panels:
        _site_axes(axes, places)
        _mark(axes, study, places)
    for axes in panels[-columns:]:
        axes.set_xlabel("Site" if len(places) <= NAMED else f"Block (in each: {', '.join(_names(places))})")
    figure.legend(handles=_signs(study, rows, places, patched=columns == 2), loc="outside upper left", ncols=5)
    return Drawing("sites", figure, _alt(study, rows, contrasts), _caption(shares))


def _read(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with an AUROC."""
    return rows.filter(pl.col("auroc").is_finite())


def _lowest(rows: pl.DataFrame) -> float:
    """The lowest number of the left panels, at most .45."""
    ends = _read(rows).select(pl.min_horizontal("auroc", "low", "shuffled"))
    return min(0.45, *ends.to_series().drop_nans().drop_nulls())


def _shares(rows: pl.DataFrame) -> pl.DataFrame:
    """The edited model's patches: one row per site and direction, those that have a share."""
    mine = rows.filter(pl.col("model") == EDITED).unpivot(
        list(PATCHES), index=["contrast", "layer", "site"], variable_name="patch", value_name="share"
    )
    return mine.filter(pl.col("share").is_finite())


def _aurocs(axes: Axes, rows: pl.DataFrame, models: Sequence[str], places: list[Place]) -> None:
    axes.axhline(0.5, color=BAND_EDGE, lw=0.9)
    for at, model in enumerate(models):
        mine, colour, shift = _read(rows.filter(pl.col("model") == model)), MODEL_COLOURS[model], 0.14 * (at - 1.5)
        _line(axes, mine, "auroc", places, colour, f"-{MODEL_SHAPES[model]}", shift)
        stream, added = _parts(mine)
        axes.fill_between(_x(stream, places), stream["low"], stream["high"], color=colour, alpha=0.16, lw=0, zorder=1)
        axes.vlines(_x(added, places, shift), added["low"], added["high"], color=colour, alpha=0.35, lw=1, zorder=1)
        if model == EDITED:
            axes.plot(_x(mine, places), mine["shuffled"], color=colour, lw=0.9, ls=":")


def _patches(axes: Axes, shares: pl.DataFrame, places: list[Place]) -> None:
    axes.axhline(0, color=INK, lw=0.9)
    axes.axhline(1, color=BAND_EDGE, lw=0.9, ls=":")
    axes.set_ylim(LEAST - 0.05, MOST + 0.05)
    for patch, (colour, look) in PATCHES.items():
        mine = shares.filter(pl.col("patch") == patch)
        inside = mine.with_columns(pl.col("share").clip(LEAST, MOST))
        _line(axes, inside, "share", places, colour, look)
        for sign, edge, beyond in (("v", LEAST, pl.col("share") < LEAST), ("^", MOST, pl.col("share") > MOST)):
            out = _x(mine.filter(beyond), places)
            axes.plot(out, [edge] * len(out), sign, ms=6, color=colour)
    if not shares.height:
        axes.text(0.5, 0.5, "no margin to carry", transform=axes.transAxes, ha="center", backgroundcolor="white")


def _line(
    axes: Axes, rows: pl.DataFrame, column: str, places: list[Place], colour: str, look: str, shift: float = 0
) -> None:
    """A line through the residual stream, and points beside it, moved sideways by `shift` of a site."""
    stream, added = _parts(rows)
    few = len(places) <= NAMED
    axes.plot(_x(stream, places), stream[column], look, lw=1.5, ms=5 if few else 2.5, color=colour)
    axes.plot(_x(added, places, shift), added[column], look[-1], ms=4.5 if few else 2.5, color=colour, alpha=0.6, mew=0)


def _parts(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of the residual stream, and those of what is added to it."""
    of_stream = pl.col("site").is_in(STREAM)
    return rows.filter(of_stream), rows.filter(~of_stream)


def _x(rows: pl.DataFrame, places: list[Place], shift: float = 0) -> list[float]:
    at = {place: i for i, place in enumerate(places)}
    return [at[place] + shift for place in rows.select("layer", "site").rows()]


def _site_axes(axes: Axes, places: list[Place]) -> None:
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.grid(visible=False, axis="x")
    blocks = sorted({layer for layer, _ in places})
    first = {layer: i for i, (layer, _) in reversed(list(enumerate(places)))}
    for block in blocks[1:]:
        axes.axvline(first[block] - 0.5, color=FAINT, lw=0.8, zorder=0)
    if len(places) <= NAMED:
        axes.set_xticks(range(len(places)), [f"{layer} {site}" for layer, site in places], rotation=90, fontsize=9)
    else:
        shown = blocks[:: -(-len(blocks) // NAMED)]
        axes.set_xticks([first[block] for block in shown], [str(block) for block in shown])


def _names(places: list[Place]) -> list[str]:
    return list(dict.fromkeys(site for _, site in places))


def _marked(study: Study, places: list[Place]) -> dict[str, tuple[int, str]]:
    """Label to place on the axis and line, of the chosen site and, where it is another, of the one that is read."""
    at = {hook({"layer": layer, "name": site}): i for i, (layer, site) in enumerate(places)}
    chosen, read = hook(study.site.get("chosen")), hook(study.site.get("read"))
    found = {"chosen site": (chosen, "--")} | ({"residuals are read": (read, "-.")} if read != chosen else {})
    return {label: (at[name], line) for label, (name, line) in found.items() if name in at}


def _mark(axes: Axes, study: Study, places: list[Place]) -> None:
    for x, line in _marked(study, places).values():
        axes.axvline(x, color=INK, lw=1.1, ls=line, zorder=1)


def _signs(study: Study, rows: pl.DataFrame, places: list[Place], *, patched: bool) -> list[Line2D]:
    there = _read(rows)["model"]
    signs = [
        Line2D([], [], color=MODEL_COLOURS[m], marker=MODEL_SHAPES[m], ms=5, label=MODEL_LABELS[m])
        for m in study.models
        if m in there
    ]
    if EDITED in there:
        label = f"{MODEL_LABELS[EDITED]}, labels shuffled"
        signs.append(Line2D([], [], color=MODEL_COLOURS[EDITED], lw=0.9, ls=":", label=label))
    if patched:
        signs += [
            Line2D([], [], color=colour, ls=look[:-1], marker=look[-1], ms=5, label=f"{patch} patch")
            for patch, (colour, look) in PATCHES.items()
        ]
    marked = _marked(study, places).items()
    return [*signs, *(Line2D([], [], color=INK, lw=1.1, ls=line, label=label) for label, (_, line) in marked)]


def _size(rows: pl.DataFrame) -> str:
    pairs = rows["held_out"].max()
    return "" if pairs is None else f" ({pairs} held-out pairs)"


def _alt(study: Study, rows: pl.DataFrame, contrasts: Sequence[str]) -> str:
    sentences = []
    for contrast in contrasts:
        mine = _read(rows.filter(pl.col("contrast") == contrast))
        best = [
            f"{MODEL_LABELS[m]} {_best(mine.filter(pl.col('model') == m))}" for m in study.models if m in mine["model"]
        ]
        sentences.append(f"{contrast}: highest held-out AUROC {', '.join(best)}")
        for row in mine.filter(pl.col("model") == EDITED).iter_rows(named=True):
            if _name(row) == hook(study.site.get("chosen")):
                shares = {patch: share for patch in PATCHES if (share := real(row[patch])) is not None}
                carried = [f"{patch} {number(100 * share, 0)} % of the margin" for patch, share in shares.items()]
                sentences.append(f"At the chosen site: {', '.join([number(row['auroc'], 3), *carried])}")
    return f"{'. '.join(sentences)}."


def _best(rows: pl.DataFrame) -> str:
    row = rows.sort("auroc", descending=True, maintain_order=True).row(0, named=True)
    return f"{number(row['auroc'], 3)} at {_name(row)}"


def _name(row: dict) -> str:
    return hook({"layer": row["layer"], "name": row["site"]})


def _caption(shares: pl.DataFrame) -> str:
    said = "Left: h" if shares.height else "H"
    caption = f"{said}eld-out AUROC of a linear probe at each site, with 95 % intervals over pairs; 0.5 is chance. "
    caption += "Lines join the residual stream (resid_mid, resid_post); points are what attention and MLP add to it."
    if shares.height:
        caption += (
            " Right: share of the distilled model's margin that a patch carries, 0 none, 1 all. A patch at an early "
            "site exchanges the last token itself and can carry much where nothing can be read, so probe and patch "
            "must both pass. Neither shows which later position uses the information."
        )
    outside = shares.filter((pl.col("share") < LEAST) | (pl.col("share") > MOST))["share"]
    if outside.len():
        least, most = (number(float(v), 2) for v in (outside.min(), outside.max()))  # type: ignore[arg-type]
        caption += (
            f" {outside.len()} of {shares.height} shares lie outside the axis (triangles at its edge; the lowest "
            f"{least}, the highest {most})."
        )
    return caption
