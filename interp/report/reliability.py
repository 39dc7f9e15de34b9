"""How often the instrument was right where the truth is known: what stands beside a study's verdict."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from interp.report.numbers import number

RATES = {
    "given": "a verdict is given",
    "right among given": "and is right",
    "false 'stylistic'": "“stylistic” of one that is not",
    "false 'functional'": "“functional” of one that is not",
}
"""Rate to its row's name."""
INSTRUMENTS = {"verdict": "by edits of text", "circuit": "through the circuit"}
"""Instrument to its column's name."""


@dataclass(frozen=True)
class Reliability:
    """Readings of organisms, as they are published with the package."""

    organisms: pl.DataFrame
    """One row an organism: `kind`, `seed`, `commit` of the code that read it."""
    rates: pl.DataFrame
    """`instrument`, `rate`, `count`, `of`, and the exact 95 % interval `low`, `high`."""

    @property
    def lead(self) -> str:
        """Which organisms they are."""
        kinds = ", ".join(sorted(set(self.organisms["kind"])))
        commits = ", ".join(sorted(set(self.organisms["commit"].drop_nulls())))
        seeds = ", ".join(map(str, sorted(set(self.organisms["seed"]))))
        return (
            f"{len(self.organisms)} organisms whose truth is known by construction ({kinds}; seeds {seeds}), read with "
            f"rules that were fixed before, by code of commit {commits}."
        )

    @property
    def table(self) -> list[list[str]]:
        """A head, and one row a rate."""
        rows = [["", *INSTRUMENTS.values()]]
        for rate, name in RATES.items():
            rows.append([name, *(self._cell(instrument, rate) for instrument in INSTRUMENTS)])
        return rows

    def _cell(self, instrument: str, rate: str) -> str:
        found = self.rates.filter(instrument=instrument, rate=rate)
        if not len(found) or not found["of"].item():
            return "–"
        row = found.row(0, named=True)
        return f"{row['count']} of {row['of']} [{number(row['low'], 2)}, {number(row['high'], 2)}]"
