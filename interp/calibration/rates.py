"""Error rates of the verdicts: counts of organisms with exact intervals (Clopper & Pearson 1934)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from interp.calibration.naive import INSTRUMENTS
from interp.calibration.power import SIZES
from interp.causal.verdict import FUNCTIONAL, OPENED, STYLISTIC, UNDETERMINED
from interp.features.circuit import OF_THE_DECISION
from interp.organisms.kinds import KINDS
from interp.report.reliability import ALL
from interp.statistics import clopper_pearson

TEXT, CIRCUIT = "verdict", "circuit"
"""Columns of the two verdicts: by edits of text, and through the circuit."""
FAILED = "failed"
"""What stands for the verdict of an organism whose study failed."""
FUNCTIONS = (FUNCTIONAL, OPENED)


@dataclass(frozen=True)
class Rate:
    """A share of organisms."""

    instrument: str
    rate: str
    count: int
    of: int

    def as_dict(self) -> dict[str, Any]:
        """With the share and its 95 % interval; they are None of no organism."""
        share, (low, high) = None, (None, None)
        if self.of:
            share, (low, high) = self.count / self.of, clopper_pearson(self.count, self.of)
        return asdict(self) | {"share": share, "low": low, "high": high}


def confusion(table: pl.DataFrame, instrument: str) -> pl.DataFrame:
    """Truth by verdict: numbers of organisms, refusals (`undetermined`) and failures among them."""
    said = pl.col(instrument).fill_null(FAILED)
    return table.group_by("truth", said.alias("said")).len("organisms").sort("truth", "said")


def rates(table: pl.DataFrame) -> pl.DataFrame:
    """One row a rate, of ALL organisms and of those of each world. A study that failed said nothing: it is no given
    verdict, and stays in every denominator of what may be said falsely."""
    worlds = [(ALL, table), *((world, table.filter(world=world)) for world in table["world"].unique().sort())]
    rows = [{"world": world} | rate.as_dict() for world, mine in worlds for rate in _rates(mine)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _rates(table: pl.DataFrame) -> Iterator[Rate]:
    for instrument in (TEXT, CIRCUIT):
        yield from _of_verdict(table, instrument)
        yield from _of_size(table, instrument)
    yield from _of_latents(table)
    yield from _of_words(table)
    yield from _of_style(table)


SCHEMA = {
    "world": pl.String,
    "instrument": pl.String,
    "rate": pl.String,
    "count": pl.Int64,
    "of": pl.Int64,
    "share": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def _of_verdict(table: pl.DataFrame, instrument: str) -> Iterator[Rate]:
    said, truth = pl.col(instrument).fill_null(FAILED), pl.col("truth")
    given = table.filter(~said.is_in([UNDETERMINED, FAILED]))
    yield Rate(instrument, "given", len(given), len(table))
    yield Rate(instrument, "right among given", len(given.filter(said == truth)), len(given))
    yield Rate(instrument, "right", len(given.filter(said == truth)), len(table))
    for word, among in (("stylistic", (STYLISTIC,)), ("functional", FUNCTIONS)):
        others = table.filter(~truth.is_in(among))
        yield Rate(instrument, f"false {word!r}", len(others.filter(said.is_in(among))), len(others))
        mine = table.filter(truth.is_in(among))
        yield Rate(instrument, f"power of {word!r}", len(mine.filter(said == truth)), len(mine))
    yield Rate(instrument, "failed", len(table.filter(said == FAILED)), len(table))


def _of_size(table: pl.DataFrame, instrument: str) -> Iterator[Rate]:
    """The same with fewer problems."""
    for n in SIZES:
        said = table.select("truth", pl.col(f"{instrument}_{n}").fill_null(FAILED).alias("said"))
        given = said.filter(~pl.col("said").is_in([UNDETERMINED, FAILED]))
        right = len(given.filter(pl.col("said") == pl.col("truth")))
        yield Rate(instrument, f"given, {n} problems", len(given), len(said))
        yield Rate(instrument, f"right among given, {n} problems", right, len(given))


def _of_words(table: pl.DataFrame) -> Iterator[Rate]:
    """Of the words that the kind planted and no lexicon lists, and of those that studies found."""
    planted, found, right = (int(table[f"words_{what}"].fill_null(0).sum()) for what in ("planted", "found", "right"))
    yield Rate("unlisted words", "planted ones found", min(right, planted), planted)
    yield Rate("unlisted words", "found ones planted", right, found)


def _of_latents(table: pl.DataFrame) -> Iterator[Rate]:
    for name in OF_THE_DECISION:
        located = pl.col(name).fill_null(0) > 0
        said = {kind: about.latents.get(name) for kind, about in KINDS.items()}
        planted = pl.col("kind").replace_strict(said, default=None, return_dtype=pl.Boolean)
        there, elsewhere = table.filter(planted), table.filter(~planted)
        yield Rate(f"{name} latents", "located where planted", len(there.filter(located)), len(there))
        yield Rate(f"{name} latents", "located falsely", len(elsewhere.filter(located)), len(elsewhere))


def _of_style(table: pl.DataFrame) -> Iterator[Rate]:
    """Of the one question that all instruments answer: does accuracy run on style?"""
    truly = pl.col("truth") == STYLISTIC
    for name in INSTRUMENTS:
        others, mine = table.filter(~truly), table.filter(truly)
        yield Rate(name, "says style falsely", len(others.filter(pl.col(name))), len(others))
        yield Rate(name, "misses style", len(mine.filter(~pl.col(name))), len(mine))
        yield Rate(name, "says nothing", len(table.filter(pl.col(name).is_null())), len(table))
