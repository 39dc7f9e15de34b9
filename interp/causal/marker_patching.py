"""Patching at markers: what each component of the model carries from a marker to what follows it.

A unit is one component under one arm, over all pairs and draws: a Parquet file in `patches/`, whose rows are single
patches of single pairs. The rows of the effects' table are a pure function of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from interp.causal.effects import control_columns, number
from interp.causal.pairs import Pair
from interp.causal.patching import (
    BYTES,
    Component,
    patch,
    positions_mask,
    random_positions,
    read_beginning,
    run_side,
)
from interp.causal.runs import read_part, read_parts, write_index, write_part
from interp.folders import digest
from interp.models.hooks import Site
from interp.statistics import Bootstrap, sign_p
from interp.workers import Spread, in_turn

Positions = list[int]
NOISING, DENOISING = "noising", "denoising"
TOGETHER = 16
"""Pairs that are run together, fewer where their logits would take more than BYTES. They are sorted by where they begin
to differ: the fewer they are, the more of them is read once for all patches."""
SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "model": pl.String,
    "layer": pl.Int64,
    "site": pl.String,
    "head": pl.Int64,
    "draw": pl.Int32,
    "problem": pl.String,
    "positions": pl.List(pl.Int32),
    "clean": pl.Float64,
    "corrupt": pl.Float64,
    "patched": pl.Float64,
}
"""Columns: `draw` 0 is patched at the marker and the others at random `positions` of the pair's sequence; the last
three are log-probabilities (nats) of the pair's continuation."""
PLACE = ("arm", "model", "layer", "site", "head")


@dataclass(frozen=True)
class Patching:
    """All patches of a model."""

    model: str
    revision: str
    """What identifies its weights."""
    pairs: tuple[Pair, ...]
    components: tuple[Component, ...]
    draws: int
    """Of random positions, beside the marker's."""
    seed: int

    @property
    def units(self) -> list[tuple[str, Component]]:
        """(arm, component) of every file."""
        return [(arm, component) for arm in (NOISING, DENOISING) for component in self.components]

    @cached_property
    def places(self) -> list[list[list[int]]]:
        """Positions [draw][pair] that are patched, the marker's first; the same for every unit."""
        rng = np.random.default_rng(self.seed)
        return [[p.changed for p in self.pairs], *(random_positions(self.pairs, rng) for _ in range(self.draws))]

    def key(self, arm: str, component: Component) -> str:
        """Name of a unit's file."""
        pairs = [asdict(pair) for pair in self.pairs]
        about = [arm, str(component.site), component.head, self.model, self.revision, pairs, self.draws, self.seed]
        return digest(about)[:32]


def components_of(layers: Sequence[int], sites: Sequence[str], heads: int) -> tuple[Component, ...]:
    """Every site of every layer; `z` head by head."""
    return tuple(
        Component(Site(layer, site), head)
        for layer in layers
        for site in sites
        for head in (range(heads) if site == "z" else [None])
    )


@dataclass(frozen=True)
class Patcher:
    """Patches one unit after the other, in this process or in another, where it opens a bridge of its own."""

    what: Patching
    opened: Callable[[], Any]
    """Returns the bridge."""

    @cached_property
    def bridge(self) -> Any:
        return self.opened()

    def __call__(self, unit: tuple[str, Component]) -> tuple[tuple[str, Component], pl.DataFrame]:
        return unit, _unit(self.bridge, self.what, *unit)


def run_patching(
    opened: Callable[[], Any],
    what: Patching,
    out: Path,
    *,
    earlier: Sequence[Path] = (),
    spread: Spread = in_turn,
    on_done: Callable[[], None] = lambda: None,
) -> pl.DataFrame:
    """Patch what is missing in the folder `out`, and return the whole table.

    Args:
        opened: returns the bridge; called only if something is missing.
        earlier: folders with units that may be taken instead of run again.
        spread: how units are shared out (`workers.crew`).
        on_done: callback at every finished unit.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, files = len(what.pairs) * (1 + what.draws), {unit: f"{what.key(*unit)}.parquet" for unit in what.units}
    found: dict[tuple[str, Component], pl.DataFrame] = {}
    for unit, file in files.items():
        parts = ((folder, read_part(folder / file, rows, SCHEMA)) for folder in (out, *earlier))
        folder, part = next(((folder, part) for folder, part in parts if part is not None), (out, None))
        if part is None:
            continue
        if folder != out:
            write_part(out / file, part)
        found[unit] = part
        on_done()
    for unit, part in spread(Patcher(what, opened), [unit for unit in what.units if unit not in found]):
        write_part(out / files[unit], part)
        found[unit] = part
        on_done()
    write_index(out, {}, [file.removesuffix(".parquet") for file in files.values()])
    return pl.concat([found[unit] for unit in what.units])


def read_patches(folder: Path) -> pl.DataFrame:
    """The patches in a folder `causal/patches` of a study.

    Raises:
        InterpError: none are there, or a file is damaged.
    """
    return read_parts(folder)[0]


def _unit(bridge: Any, what: Patching, arm: str, component: Component) -> pl.DataFrame:
    """One component under one arm."""
    labels = {"arm": arm, "model": what.model, "layer": component.site.layer, "site": component.site.name}
    rows = []
    for batch in batches(what.pairs, bridge.cfg.d_vocab):
        pairs = [what.pairs[i] for i in batch]
        places = [[positions[i] for i in batch] for positions in what.places]
        beginning = read_beginning(bridge, pairs)
        clean, corrupt = (run_side(bridge, pairs, beginning, side, [component]) for side in (False, True))
        into, source = (clean, corrupt) if arm == NOISING else (corrupt, clean)
        once, again = distinct(places)
        masks = [positions_mask(positions, clean) for positions in once]
        patched = np.take_along_axis(patch(bridge, into, source, component, masks, pairs), again, axis=0)
        for draw, positions in enumerate(places):
            rows += [
                labels
                | {"head": component.head, "draw": draw, "problem": pair.problem, "positions": positions[i]}
                | {"clean": clean.metric[i], "corrupt": corrupt.metric[i], "patched": patched[draw, i]}
                for i, pair in enumerate(pairs)
            ]
    order = {pair.problem: i for i, pair in enumerate(what.pairs)}
    rows.sort(key=lambda row: (row["draw"], order[row["problem"]]))
    return pl.DataFrame(rows, schema=SCHEMA)


def distinct(places: Sequence[Sequence[Positions]]) -> tuple[list[list[Positions]], Int[np.ndarray, "draws pairs"]]:
    """The positions [k][pair] without repetition, and the k of each draw and pair: a short text has few places, so that
    most draws of a pair repeat one another. Pairs with fewer are filled up with the first draw's."""
    known = [list(dict.fromkeys(map(tuple, draws))) for draws in zip(*places, strict=True)]
    most = max(map(len, known))
    once = [[list(mine[k] if k < len(mine) else mine[0]) for mine in known] for k in range(most)]
    again = [[mine.index(tuple(positions)) for mine, positions in zip(known, draw, strict=True)] for draw in places]
    return once, np.array(again)


def batches(pairs: Sequence[Pair], vocab: int) -> list[list[int]]:
    """Numbers of the pairs that are run together: neighbours in where they begin to differ."""
    found: list[list[int]] = [[]]
    for i in sorted(range(len(pairs)), key=lambda i: (pairs[i].changed[0], len(pairs[i].clean), i)):
        batch = [*found[-1], i]
        width = max(len(pairs[j].clean) for j in batch)
        if found[-1] and (len(batch) > TOGETHER or 4 * vocab * width * len(batch) > BYTES):
            found.append([])
        found[-1].append(i)
    return found


def patching_rows(table: pl.DataFrame, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Noising and denoising at the marker by component, beside as many random positions.

    Two rows a component: the change of the continuation's log-probability (nats), and the share `restored`.
    """
    rows = []
    for key, group in table.partition_by(*PLACE, as_dict=True, maintain_order=True).items():
        place: dict[str, Any] = dict(zip(PLACE, key, strict=True))
        rows += _rows(place, group, Bootstrap(int((group["draw"] == 0).sum()), resamples, seed))
    return rows


def _rows(place: Mapping[str, Any], group: pl.DataFrame, bootstrap: Bootstrap) -> Iterator[dict[str, Any]]:
    noising = place["arm"] == NOISING
    draws = [rows for _, rows in group.group_by("draw", maintain_order=True)]
    before = [rows["clean" if noising else "corrupt"].to_numpy() for rows in draws]
    moved = [rows["patched"].to_numpy() - b for rows, b in zip(draws, before, strict=True)]
    change, controls = moved[0], np.stack(moved[1:])
    raw = bootstrap.difference(change)
    labels = {"family": "patching", **place, "n_problems": len(change), "coherent": True, "note": ""}
    own = sign_p(bootstrap.sums(change))
    beside = control_columns(raw.estimate, controls.mean(axis=1).tolist(), "random positions", own)
    yield labels | {"outcome": "log-probability", "untouched": float(before[0].mean())} | raw.as_dict() | beside
    gap = (draws[0]["clean"] - draws[0]["corrupt"]).to_numpy()
    yield labels | {"outcome": "restored"} | restored(change, controls, -gap if noising else gap, bootstrap)


def restored(change: np.ndarray, controls: np.ndarray, gap: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """Share of the difference between clean and corrupt (`gap`) that the patch carries over, a ratio of means over
    pairs: 0 nothing, 1 all. Refused where the interval of `gap` contains 0: the share would divide by noise."""
    total = bootstrap.difference(gap)
    if not total.excludes_zero():
        return {
            "note": f"refused: clean and corrupt differ by {total.estimate:.3f} "
            f"[{total.low:.3f}, {total.high:.3f}] nats, which may be 0"
        }
    draws = bootstrap.sums(change) / bootstrap.sums(gap)
    draws = draws[np.isfinite(draws)]
    share = bootstrap.interval(float(change.sum() / gap.sum()), draws)
    shares = (controls.sum(axis=1) / gap.sum()).tolist()
    return number(share) | control_columns(share.estimate, shares, "random positions", sign_p(draws))
