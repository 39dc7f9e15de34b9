"""Rates from tables whose counts are known."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.calibration.naive import INSTRUMENTS
from interp.calibration.organisms import SCHEMA
from interp.calibration.rates import ALL, FAILED, confusion, rates
from interp.features.circuit import OF_THE_DECISION
from interp.organisms.kinds import KINDS
from interp.statistics import clopper_pearson

NAMES = tuple(KINDS)
SAID = ("functional", "stylistic", "decorative", "functional, opened by its words", "undetermined", None)


def table(*rows):
    """Rows (kind, verdict, circuit verdict, deciding, wording); a verdict of None is a study that failed."""
    named = [
        {
            "world": "chains",
            "kind": kind,
            "truth": KINDS[kind].truth,
            "verdict": said,
            "circuit": circuit,
            "deciding": d,
            "wording": w,
        }
        for kind, said, circuit, d, w in rows
    ]
    return pl.DataFrame(named, schema=SCHEMA)


def rate(found, instrument, name, world=ALL):
    """(count, of)."""
    return found.filter(world=world, instrument=instrument, rate=name).select("count", "of").row(0)


MADE = table(
    ("functional", "functional", "functional", 1, 0),
    ("functional", "undetermined", "stylistic", 0, 2),
    ("coupled", "functional", "functional, opened by its words", 3, 0),
    ("gated", "stylistic", "undetermined", 0, 4),
    ("gated", "functional", "stylistic", 1, 0),
    ("decorative", "stylistic", "undetermined", 0, 0),
    ("plain", None, None, None, None),
)


def test_counts_by_hand():
    found = rates(MADE)
    assert rate(found, "verdict", "given") == (5, 7)
    assert rate(found, "verdict", "right among given") == (2, 5)
    assert rate(found, "verdict", "right") == (2, 7)
    assert rate(found, "verdict", "false 'stylistic'") == (1, 5)
    assert rate(found, "verdict", "power of 'stylistic'") == (1, 2)
    # The coupled organism is functional, opened by its words: the other word of the two is no false `functional`, ...
    assert rate(found, "verdict", "false 'functional'") == (1, 4)
    # ... but it is not right.
    assert rate(found, "verdict", "power of 'functional'") == (1, 3)
    assert rate(found, "verdict", "failed") == (1, 7)
    assert rate(found, "circuit", "given") == (4, 7)
    assert rate(found, "circuit", "right among given") == (3, 4)
    assert rate(found, "circuit", "false 'stylistic'") == (1, 5)
    assert rate(found, "deciding latents", "located where planted") == (2, 3)
    assert rate(found, "deciding latents", "located falsely") == (1, 4)
    assert rate(found, "wording latents", "located where planted") == (1, 2)
    assert rate(found, "wording latents", "located falsely") == (1, 5)


def test_who_says_style_falsely():
    naive = dict(zip(INSTRUMENTS, [True, None, False, None, None, None, True], strict=True))
    made = MADE.with_columns(pl.lit(said, pl.Boolean).alias(name) for name, said in naive.items())
    first, second, third, *_, last = INSTRUMENTS
    found = rates(made)
    assert rate(found, first, "says style falsely") == rate(found, last, "says style falsely") == (5, 5)
    assert rate(found, first, "misses style") == (0, 2) and rate(found, third, "misses style") == (2, 2)
    assert rate(found, third, "says style falsely") == (0, 5)
    assert rate(found, second, "says nothing") == (7, 7) and rate(found, second, "misses style") == (0, 2)


def test_every_world_has_its_own_rates_and_all_have_theirs():
    two = pl.concat([MADE, MADE.filter(kind="gated").with_columns(world=pl.lit("lists"))])
    found = rates(two)
    assert rate(found, "verdict", "power of 'stylistic'", "chains") == (1, 2)
    assert rate(found, "verdict", "power of 'stylistic'", "lists") == (1, 2)
    assert rate(found, "verdict", "power of 'stylistic'") == (2, 4)
    assert rate(found, "verdict", "given", "lists") == (2, 2) and rate(found, "verdict", "given") == (7, 9)


def test_power_with_fewer_problems_and_words_that_no_lexicon_lists():
    said = ["functional", "undetermined", "functional", None, "stylistic", "decorative", None]
    columns = {"verdict_128": said, "words_planted": [6, 0, 0, 0, 0, 0, None], "words_found": [5, 0, 2, 0, 0, 0, None]}
    made = MADE.with_columns(pl.Series(name, values) for name, values in columns.items())
    made = made.with_columns(words_right=pl.Series([4, 0, 0, 0, 0, 0, None]))
    found = rates(made)
    assert rate(found, "verdict", "given, 128 problems") == (4, 7)
    assert rate(found, "verdict", "right among given, 128 problems") == (3, 4)
    assert rate(found, "unlisted words", "planted ones found") == (4, 6)
    assert rate(found, "unlisted words", "found ones planted") == (4, 7)


def test_confusion_holds_every_organism_once():
    found = confusion(MADE, "verdict")
    assert found["organisms"].sum() == len(MADE)
    assert found.filter(truth="stylistic", said="functional")["organisms"].to_list() == [1]
    assert found.filter(said=FAILED)["truth"].to_list() == ["no gain beyond training"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), *[st.sampled_from(SAID)] * 2, *[st.integers(0, 3)] * 2), max_size=30))
def test_every_rate_is_a_share_with_its_exact_interval(rows):
    found = rates(table(*rows))
    assert found.select("world", "instrument", "rate").is_unique().all()
    assert set(found["world"]) == {ALL, *["chains"] * bool(rows)}
    for row in found.iter_rows(named=True):
        assert 0 <= row["count"] <= row["of"] <= len(rows)
        if not row["of"]:
            assert row["share"] is row["low"] is row["high"] is None
            continue
        assert row["low"] <= row["share"] <= row["high"]
        assert (row["low"], row["high"]) == pytest.approx(clopper_pearson(row["count"], row["of"]))


@given(st.lists(st.tuples(st.sampled_from(NAMES), *[st.sampled_from(SAID)] * 2, *[st.integers(0, 3)] * 2), max_size=30))
def test_planted_and_elsewhere_are_all(rows):
    found = rates(table(*rows))
    for name in OF_THE_DECISION:
        there, elsewhere = (
            rate(found, f"{name} latents", what)[1] for what in ("located where planted", "located falsely")
        )
        judged = [kind for kind, *_ in rows if name in KINDS[kind].latents]
        assert there + elsewhere == len(judged)
