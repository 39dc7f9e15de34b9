"""The pure functions of the runs: usable range and slopes, on tables written by hand."""

import numpy as np
import pytest

from interp.steering.response import all_effects, failed, slopes, symmetric, usable
from tests.causal.runs import Table, answers

N = 100
DOSES = (-0.2, -0.1, 0.1, 0.2)
COHERENT = {"distilled": {}}


@pytest.mark.parametrize(
    ("wrong", "band"),
    [
        ((), (-0.2, 0.2)),
        ((0.2,), (-0.2, 0.1)),
        ((0.1,), (-0.2, 0.0)),  # a gap ends the band, though 0.2 passes
        (DOSES, (0.0, 0.0)),
    ],
)
def test_the_usable_range_ends_before_the_first_dose_that_fails(wrong, band):
    assert usable(DOSES, {d: ["bad"] if d in wrong else [] for d in DOSES}) == band


@pytest.mark.parametrize(
    ("band", "inner"), [((-0.4, 0.1), (-0.1, 0.1)), ((-0.2, 0.2), (-0.2, 0.2)), ((0.0, 0.4), (0.0, 0.0))]
)
def test_a_slope_is_read_as_far_to_either_side(band, inner):
    assert symmetric(band) == inner


def runs_of(right, controls=0, drop=0.0, **columns):
    """Doses with as many right answers as `right(dose)`; every control loses `drop` of them at any dose."""
    table = Table().untouched("distilled", answers(0.5, N))
    for dose in DOSES:
        said = {"family": "steering", "dose": dose, "control_name": "norm"}
        draws = [answers(0.5 - drop * (dose + 0.01 * i), N) for i in range(controls)]
        table.arm(
            f"add {dose:+g} everywhere", right=answers(right(dose), N), said=said, draws=draws, fired=1, **columns
        )
    return table.runs()


def test_what_goes_wrong_is_named():
    wrong = failed(runs_of(lambda d: 0.5, finished=0.5), COHERENT, 1.5)["distilled"]
    assert all("fewer texts end (1.00" in problems[0] for problems in wrong.values())
    loud = {"distilled": {"add +0.2 everywhere": 1.7}}
    wrong = failed(runs_of(lambda d: 0.5), loud, 1.5)["distilled"]
    assert wrong == {f"add {d:+g} everywhere": ["the text is incoherent"] if d == 0.2 else [] for d in DOSES}


def of(rows, family, outcome="accuracy"):
    (row,) = (r for r in rows if (r["family"], r["outcome"]) == (family, outcome))
    return row


def test_a_planted_slope_is_found():
    """Accuracy rises by one point per hundredth of a dose: by .1 a step of .1."""
    row = of(slopes(runs_of(lambda d: 0.5 + d), "everywhere", "distilled", (-0.2, 0.2), 0, 200, 0), "slope")
    assert row["estimate"] == pytest.approx(0.1)
    assert row["low"] <= 0.1 <= row["high"]
    assert row["arm"] == "everywhere, -0.2 to +0.2"


def test_only_doses_of_the_band_count():
    bent = runs_of(lambda d: 0.5 + min(d, 0.1))
    row = of(slopes(bent, "everywhere", "distilled", (-0.2, 0.1), 0, 200, 0), "slope")
    assert row["estimate"] == pytest.approx(0.1)
    assert slopes(bent, "everywhere", "distilled", (0.0, 0.0), 0, 200, 0) == []
    assert slopes(bent, "forks", "distilled", (-0.2, 0.2), 0, 200, 0) == []


def test_the_controls_are_split_by_kind_and_have_slopes_of_their_own():
    runs = runs_of(lambda d: 0.5 + d, controls=25, drop=0.5)
    rows = slopes(runs, "everywhere", "distilled", (-0.2, 0.2), 20, 200, 0)
    for family, n in (("slope", 20), ("slope, covariance", 5)):
        row = of(rows, family)
        assert row["n_controls"] == n
        assert row["control_mean"] == pytest.approx(-0.05, abs=0.01)
        assert 1 / (n + 1) - 1e-9 <= row["p"] <= 2 / (n + 1)


def test_both_kinds_of_controls_stand_beside_every_dose():
    runs = runs_of(lambda d: 0.5 + d, controls=25)
    wrong = failed(runs, COHERENT, 1.5)
    rows = all_effects(runs, 20, COHERENT, wrong, 1.5, 200, 0)
    for family, n, name in (
        ("steering", 20, "norm"),
        ("steering, covariance", 5, "random directions, same covariance"),
    ):
        mine = [r for r in rows if r["family"] == family and r["outcome"] == "accuracy"]
        assert [r["dose"] for r in mine] == list(DOSES)
        assert {(r["n_controls"], r["control_name"]) for r in mine} == {(n, name)}
        assert np.allclose([r["estimate"] for r in mine], DOSES)
