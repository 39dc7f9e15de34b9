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
ALL = "all"
"""What `rates` has in the place of a world for all of them together."""


@dataclass(frozen=True)
class Reliability:
    """Readings of organisms, as they are published with the package."""

    organisms: pl.DataFrame
    """One row an organism: `world`, `family`, `kind`, `seed`, `problems`, `commit` of the code that read it."""
    rates: pl.DataFrame
    """`world`, `instrument`, `rate`, `count`, `of`, and the exact 95 % interval `low`, `high`."""
    nearest: str
    """The world that is most like the study's texts."""
    why: str
    """What makes it the nearest."""

    @property
    def lead(self) -> str:
        """Which organisms they are, and what their rates say of this study."""
        kinds, families = (", ".join(sorted(set(self.organisms[name]))) for name in ("kind", "family"))
        seeds, worlds = (sorted(set(self.organisms[name])) for name in ("seed", "world"))
        commits = ", ".join(sorted(set(self.organisms["commit"].drop_nulls())))
        return (
            f"{len(self.organisms)} organisms whose truth is known by construction (worlds: {', '.join(worlds)}; "
            f"{kinds}; {families}; seeds {', '.join(map(str, seeds))}), read with rules that "
            f"were fixed before, by code of commit {commits}. The nearest world is {self.nearest}: {self.why}."
        )

    @property
    def limits(self) -> str:
        """What the rates do not carry over to."""
        return (
            "Exact 95 % intervals (Clopper & Pearson). They are of small models trained from nothing on texts made by "
            "rule. Whether a verdict on larger checkpoints is as often right has not been tried: the rates say how the "
            "reading table behaves where style and work are planted, not how they hang together in a pre-trained model."
        )

    @property
    def table(self) -> list[list[str]]:
        """A head, and one row a rate."""
        columns = [(world, instrument) for world in (self.nearest, ALL) for instrument in INSTRUMENTS]
        names = {self.nearest: self.nearest, ALL: "all worlds"}
        rows = [["", *(f"{names[world]}, {INSTRUMENTS[instrument]}" for world, instrument in columns)]]
        return rows + [[name, *(self._cell(*column, rate) for column in columns)] for rate, name in RATES.items()]

    def _cell(self, world: str, instrument: str, rate: str) -> str:
        found = self.rates.filter(world=world, instrument=instrument, rate=rate)
        if not len(found) or not found["of"].item():
            return "–"
        row = found.row(0, named=True)
        return f"{row['count']} of {row['of']} [{number(row['low'], 2)}, {number(row['high'], 2)}]"
