"""Results of a trial: tables, a figure, one line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from interp.report.palette import INK, MODEL_COLOURS, Drawing, house_style, save, sheet, whiskers
from interp.statistics import Refused
from interp.trials.claims import FAILS, HOLDS, OPEN, Claim, read
from interp.trials.crossed import Crossed, Parts, ratio
from interp.trials.run import Measured

SHOWN = {
    "accuracy": ("accuracy", 3),
    "marker_density": ("markers / 100 tokens", 2),
    "verification_rate": ("wrong steps repaired", 3),
    "length": ("tokens", 1),
}
Found = Mapping[int, Mapping[str, Measured]]
"""By seed and arm."""


@dataclass(frozen=True)
class Results:
    """A trial's measurements over seeds."""

    found: Found
    bound: float
    """Equivalence bound of accuracies."""
    resamples: int

    @property
    def arms(self) -> list[str]:
        return list(next(iter(self.found.values())))

    def parts(self, arm: str, outcome: str) -> Parts:
        """[seeds, problems] of numerator and denominator."""
        both = [seed[arm].outcomes.parts[outcome] for seed in self.found.values()]
        return np.stack([top for top, _ in both]), np.stack([bottom for _, bottom in both])

    @property
    def n_problems(self) -> int:
        return len(next(iter(next(iter(self.found.values())).values())).outcomes)

    def crossed(self) -> Crossed:
        return Crossed.of(len(self.found), self.n_problems, self.resamples)

    def summary(self) -> pl.DataFrame:
        """One row per arm and outcome: estimate, interval, and each seed's value."""
        crossed = self.crossed()
        rows = []
        for arm in self.arms:
            for outcome in SHOWN:
                value = crossed.value(self.parts(arm, outcome))
                by_seed = [seed[arm].outcomes.value(outcome) for seed in self.found.values()]
                empty = {"estimate": None, "low": None, "high": None, "refused": None}
                rows.append({"arm": arm, "outcome": outcome, **empty, **value.as_dict(), "by_seed": by_seed})
            distances = [seed[arm].distance for seed in self.found.values()]
            rows.append(
                {"arm": arm, "outcome": "distance", "estimate": float(np.mean(distances)), "by_seed": distances}
            )
        return pl.DataFrame(rows, infer_schema_length=None)

    def both(self, first: str, second: str, outcome: str) -> tuple[Parts, Parts]:
        """The parts of two arms."""
        return self.parts(first, outcome), self.parts(second, outcome)

    def reading(self, claim: Claim, crossed: Crossed) -> str:
        """Reading of one claim; see `claims.read`."""
        if claim.presumes is not None:
            presumed = crossed.difference(*self.both(*claim.presumes, "accuracy"))
            if isinstance(presumed, Refused) or presumed.low <= self.bound:
                return f"{OPEN} (not shown that {claim.presumes[0]} beats {claim.presumes[1]})".replace("_", " ")
        both = self.both(claim.first, claim.second, claim.outcome)
        effect, within = crossed.difference(*both), crossed.of_these_seeds().difference(*both)
        if isinstance(effect, Refused) or isinstance(within, Refused):
            return f"{OPEN} (the event never occurred)"
        return read(claim, effect, within, ratio(both[1]), self.n_problems, self.bound)

    def readings(self, claims: Sequence[Claim]) -> pl.DataFrame:
        """One row per claim: the deciding difference with its interval, and the reading."""
        crossed = self.crossed()
        rows = []
        for claim in claims:
            effect = crossed.difference(*self.both(claim.first, claim.second, claim.outcome))
            by_seed = [
                seed[claim.first].outcomes.value(claim.outcome) - seed[claim.second].outcomes.value(claim.outcome)
                for seed in self.found.values()
            ]
            empty = {"estimate": None, "low": None, "high": None, "refused": None}
            rows.append(
                {"claim": claim.says, "source": claim.source, "figure": _figure(claim)}
                | {"reading": self.reading(claim, crossed)}
                | empty
                | effect.as_dict()
                | {"by_seed": by_seed}
            )
        return pl.DataFrame(rows, infer_schema_length=None)


def publish(name: str, results: Results, claims: Sequence[Claim], out: Path, figures: Path) -> None:
    """Print the tables and the reading; write `arms.parquet`, `claims.parquet` and the figure."""
    summary, readings = results.summary(), results.readings(claims)
    out.mkdir(parents=True, exist_ok=True)
    summary.write_parquet(out / "arms.parquet")
    readings.write_parquet(out / "claims.parquet")
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(_arms_table(summary, len(results.found), results.n_problems))
    console.print(_claims_table(readings))
    console.print(one_line(name, readings), highlight=False)
    with house_style():
        save(draw(name, summary), figures)


def one_line(name: str, readings: pl.DataFrame) -> str:
    """Counts of claims that hold, do not hold, and are undecided, in one line."""
    found = readings["reading"].str.split(" (").list.first().to_list()
    counts = ", ".join(f"{found.count(reading)} {reading}" for reading in (HOLDS, FAILS, OPEN))
    return f"{name}: {len(found)} claims: {counts}"


def draw(name: str, summary: pl.DataFrame) -> Drawing:
    """Accuracy of every arm with its interval, and each seed's value as a dot."""
    rows = summary.filter(pl.col("outcome") == "accuracy").reverse().to_dicts()
    figure, (axes,) = sheet(1, 1, 7.5, 0.6 + 0.34 * len(rows))
    for y, row in enumerate(rows):
        colour = MODEL_COLOURS.get(row["arm"].partition(",")[0], INK)
        span = whiskers(row["estimate"], row["low"], row["high"])
        axes.errorbar(row["estimate"], y, xerr=span, fmt="o", ms=6, color=colour, capsize=3)
        axes.plot(row["by_seed"], [y] * len(row["by_seed"]), "|", ms=9, color=colour, alpha=0.6)
    axes.set_yticks(range(len(rows)), [row["arm"].replace("_", " ") for row in rows])
    axes.set_xlabel("accuracy (95 % interval over problems and seeds; one tick per seed)")
    axes.grid(visible=False, axis="y")
    alt = "; ".join(f"{r['arm']} {r['estimate']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in reversed(rows))
    return Drawing(name, figure, alt, "Accuracy by arm.")


def _arms_table(summary: pl.DataFrame, n_seeds: int, n_problems: int) -> Table:
    title = f"Arms (95 % intervals over {n_problems} problems and {n_seeds} seeds)"
    table = Table(title=title, title_justify="left")
    for column in ("arm", *(title for title, _ in SHOWN.values()), "moved"):
        table.add_column(column)
    for arm in summary["arm"].unique(maintain_order=True):
        own = {row["outcome"]: row for row in summary.filter(pl.col("arm") == arm).iter_rows(named=True)}
        cells = (_cell(own[outcome], digits) for outcome, (_, digits) in SHOWN.items())
        table.add_row(arm.replace("_", " "), *cells, f"{own['distance']['estimate']:.2f}")
    return table


def _claims_table(readings: pl.DataFrame) -> Table:
    table = Table(title="The papers' claims", title_justify="left")
    for column in ("claim", "deciding difference", "estimate", "reading"):
        table.add_column(column)
    for row in readings.iter_rows(named=True):
        table.add_row(f"{row['claim']} ({row['source']})", row["figure"], _cell(row, 3), row["reading"])
    return table


def _cell(row: Mapping, digits: int) -> str:
    if row["estimate"] is None:
        return "-"
    return f"{row['estimate']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def _figure(claim: Claim) -> str:
    outcome = SHOWN[claim.outcome][0] if claim.outcome in SHOWN else claim.outcome
    return f"{outcome}: {claim.first} - {claim.second}".replace("_", " ")
