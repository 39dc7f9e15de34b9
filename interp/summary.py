"""Tables of a finished study, for the end of the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interp.errors import InterpError, one_line
from interp.folders import read_manifest
from interp.names import EDITED, MODELS
from interp.pipeline import STAGES
from interp.study import Study

T = TypeVar("T")
WIDTH = 150
"""Columns where the output is no terminal."""
COLUMNS = {
    "accuracy": ("accuracy", 3),
    "accuracy_greedy": ("greedy", 3),
    "marker_density": ("markers / 100 tokens", 2),
    "verification_rate": ("wrong steps repaired", 3),
    "length": ("tokens", 1),
}


def print_summary(study: Study) -> None:
    """Print models, effects, verdict, times, and the path of the page.

    Raises:
        InterpError: a file that it reads is damaged.
    """
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    verdict = _read(study.folder("report") / "verdict.json", lambda path: json.loads(path.read_text()))
    effects = _read(study.folder("causal") / "effects.parquet", lambda path: pl.read_parquet(path, glob=False))
    console.print(_models(verdict["models"]))
    console.print(_effects(effects))
    console.print(_verdict(verdict))
    console.print(_arms(verdict))
    times = {s.name: (read_manifest(study.folder(s.name)) or {}).get("wall_seconds", 0.0) for s in STAGES}
    console.print("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in times.items()), highlight=False)
    page = study.folder("report") / "index.html"
    console.print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)


def _read(path: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise InterpError(
            f"{path} cannot be read ({one_line(error)}); remove {path.parent} to run the stage again"
        ) from error


def interval(value: dict[str, Any] | None, digits: int = 3) -> str:
    """`estimate [low, high]`, or a dash where there is none."""
    if not value or value.get("estimate") is None:
        return "-"
    return f"{value['estimate']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _models(models: dict[str, Any]) -> Table:
    table = Table(title="Models (95 % intervals over problems)", title_justify="left")
    table.add_column("model")
    for title, _ in COLUMNS.values():
        table.add_column(title)
    for name in (m for m in MODELS if m in models):
        table.add_row(name, *(interval(models[name].get(key), digits) for key, (_, digits) in COLUMNS.items()))
    return table


def _effects(effects: pl.DataFrame) -> Table:
    """Edits of the edited model, sampled. Controls and p are those of accuracy."""
    table = Table(title="Change of the distilled model's sampled text under each edit", title_justify="left")
    for title in ("edit", "accuracy", "matched controls", "p", "p (Holm)", "wrong steps repaired", "problems"):
        table.add_column(title)
    shown = effects.filter(pl.col("model") == EDITED, pl.col("decoding") == "sampled")
    repaired = {row["arm"]: row for row in _of(shown, "verification_rate")}
    for row in _of(shown, "accuracy"):
        controls = (
            "-"
            if row["control_mean"] is None
            else (
                f"{row['control_mean']:+.3f} [{row['control_low']:+.3f}, {row['control_high']:+.3f}] "
                f"x{row['n_controls']}"
            )
        )
        p, holm = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("p", "p_holm"))
        arm = row["arm"] if row["coherent"] else f"{row['arm']} (failed a check)"
        table.add_row(arm, interval(row), controls, p, holm, interval(repaired.get(row["arm"])), str(row["n_problems"]))
    return table


def _of(effects: pl.DataFrame, outcome: str) -> list[dict[str, Any]]:
    return effects.filter(pl.col("outcome") == outcome).to_dicts()


def _verdict(verdict: dict[str, Any]) -> Table:
    table = Table(title="Verdict", title_justify="left", show_header=False)
    truth = verdict["truth"]
    agreement = "unknown" if truth is None else f"{truth} ({'agrees' if truth == verdict['verdict'] else 'DISAGREES'})"
    over_control = verdict["gain_over_control"]
    rows = {
        "verdict": verdict["verdict"],
        "known truth": agreement,
        "because": verdict["why"],
        "gain over the base": _number(verdict["gain"]),
        "gain over the control": "no control" if over_control is None else _number(over_control),
        "share of it lost with the style": _number(verdict["mediated_fraction"]),
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    return table


def _arms(verdict: dict[str, Any]) -> Table:
    """What the verdict is read from: accuracy lost under each arm."""
    table = Table(title=f"Accuracy lost (bound {verdict['bound']:.3g})", title_justify="left")
    for title in ("arm", "own", "net: of the gain", "beyond controls", "reading", "failed checks"):
        table.add_column(title)
    for name, arm in verdict["arms"].items():
        numbers = (interval(arm[key]) for key in ("own", "net", "beyond"))
        table.add_row(escape(name), *numbers, arm["reading"], escape("; ".join(arm["failed"]) or "none"))
    return table


def _number(value: dict[str, Any]) -> str:
    return f"refused: {value['refused']}" if "refused" in value else interval(value)
