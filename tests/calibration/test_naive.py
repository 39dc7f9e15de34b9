"""What simpler instruments say, from tables written by hand."""

import polars as pl
import pytest

from interp.calibration.naive import BAN, INSTRUMENTS, RECONSTRUCTION, answers, of_word
from interp.causal.verdict import STYLISTIC, UNDETERMINED, VERDICTS
from interp.organisms.kinds import KINDS


def verdict(base=(0.1, 0.3), distilled=(1.0, 1.4), word="functional", circuit=UNDETERMINED):
    density = [{"low": low, "high": high} for low, high in (base, distilled)]
    return {
        "verdict": word,
        "circuit": {"verdict": circuit},
        "models": {name: {"marker_density": d} for name, d in zip(("base", "distilled"), density, strict=True)},
    }


def effects(*rows):
    """Rows (arm, high), of the distilled model's sampled accuracy unless more is given: model, decoding, outcome."""
    full = [(*row, *("distilled", "sampled", "accuracy")[len(row) - 2 :]) for row in rows]
    columns = {"arm": pl.String, "high": pl.Float64, "model": pl.String, "decoding": pl.String, "outcome": pl.String}
    made = pl.DataFrame(full, schema=columns, orient="row")
    return made.with_columns(low=pl.col("high") - 0.2, control_mean=pl.lit(None, pl.Float64))


def said(name, of, *rows):
    return answers(of, effects(*rows))[name]


@pytest.mark.parametrize(("distilled", "expected"), [((1.0, 1.4), True), ((0.31, 0.5), True), ((0.29, 0.5), False)])
def test_markers_are_more_where_the_intervals_are_apart(distilled, expected):
    assert said("markers counted", verdict(distilled=distilled)) is expected


@pytest.mark.parametrize(("high", "expected"), [(-0.001, True), (0.0, False), (0.01, False), (None, None)])
def test_the_ban_alone(high, expected):
    assert said("ban alone", verdict(), (BAN, high)) is expected
    assert said("ban alone", verdict()) is None


OTHERS = [(BAN, -0.1, "base"), (BAN, -0.1, "distilled", "greedy"), (BAN, -0.1, "distilled", "sampled", "redone")]


@pytest.mark.parametrize("row", OTHERS)
def test_only_the_distilled_models_sampled_accuracy_counts(row):
    assert said("ban alone", verdict(), (BAN, 0.0), row) is False


def test_one_behaviour_whose_latents_matter_is_enough():
    rows = [("ablate reflection latents", 0.0), ("ablate verification latents", -0.1)]
    name = "latents by AUROC, everywhere"
    assert said(name, verdict(), *rows) is True
    assert said(name, verdict(), rows[0]) is False
    assert said(name, verdict(), ("amplify verification latents", -0.1), ("deciding latents set back", -0.1)) is None


def test_reconstruction_that_costs_accuracy_would_be_taken_for_an_effect():
    assert said("reconstruction for an edit", verdict(), (RECONSTRUCTION, -0.1)) is True
    assert said("reconstruction for an edit", verdict(), (RECONSTRUCTION, 0.0)) is False
    assert said("reconstruction for an edit", verdict(), (BAN, -0.1)) is None


@pytest.mark.parametrize(
    ("low", "high", "control", "expected"),
    [
        (-0.3, -0.1, 0.0, True),
        (-0.3, -0.1, -0.04, True),
        (-0.3, -0.1, -0.06, None),  # the controls cost as much as the rest
        (-0.3, -0.1, None, True),  # it had no controls
        (-0.04, 0.02, 0.0, False),
        (-0.06, 0.02, 0.0, None),
        (-0.06, 0.02, -0.02, False),
        (0.1, 0.3, 0.0, False),  # one-sided
        (None, None, None, None),
    ],
)
def test_the_first_verdict_is_the_ban_beyond_its_controls(low, high, control, expected):
    row = effects((BAN, high)).with_columns(low=pl.lit(low, pl.Float64), control_mean=pl.lit(control, pl.Float64))
    assert answers(verdict(), row)["the first verdict"] is expected
    assert answers(verdict(), row.clear())["the first verdict"] is None


@pytest.mark.parametrize("word", VERDICTS)
def test_a_verdict_says_style_only_by_its_word(word):
    expected = {STYLISTIC: True, UNDETERMINED: None}.get(word, False)
    assert of_word(word) is expected
    assert said("verdict by text", verdict(word=word, circuit=STYLISTIC)) is expected
    assert said("verdict through the circuit", verdict(word=STYLISTIC, circuit=word)) is expected


def test_one_kind_of_organism_runs_on_style():
    assert [name for name, kind in KINDS.items() if of_word(kind.truth)] == ["gated", "hidden", "mixed"]


def test_every_instrument_answers():
    assert set(answers(verdict(), effects())) == set(INSTRUMENTS)
