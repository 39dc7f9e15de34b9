"""What the stage computes itself: the steering direction, the runs that are compared with, and the verdict's file."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from interp.causal.verdict import STYLE, Arm
from interp.config import check_config
from interp.names import OUTCOMES, REFLECTION, VERIFICATION
from interp.stages.causal import _untouched, _verdict, behaviour_direction
from interp.study import Study
from interp.traces.labels import BEFORE, ELSEWHERE, INSIDE, MARKER, NONE
from interp.traces.measure import Outcomes
from tests.causal.runs import make_subject
from tests.features.samples import labelled

PLACES = {
    REFLECTION: [INSIDE, ELSEWHERE, ELSEWHERE, ELSEWHERE, MARKER, NONE],
    VERIFICATION: [ELSEWHERE, INSIDE, ELSEWHERE, BEFORE, MARKER, NONE],
}
"""Two rows inside a behaviour, one outside both; then one just before a behaviour, a marker, and a prompt's."""
ROWS = [[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [100.0, 0.0], [0.0, 200.0], [0.0, 300.0]]
"""The edited model's; norms 5, 1, 2, 100, 200, 300."""


def data(folder, places=PLACES):
    x = torch.zeros(6, 3, 16)
    x[:, 1, :2] = torch.tensor(ROWS)
    x[:, 0], x[:, 2] = 7.0, -7.0  # the other models' residuals
    return labelled(folder, x, [6], label={b: np.array(p, dtype="<U9") for b, p in places.items()})


def test_the_direction_points_from_elsewhere_into_the_behaviour(tmp_path):
    """((3, 4) + (1, 0)) / 2 - (0, 2) = (2, 0), of the edited model alone; the mean norm is over all its rows."""
    direction, norm = behaviour_direction(data(tmp_path / "store"))
    assert direction is not None
    assert direction[:2].tolist() == [2.0, 0.0]
    assert torch.count_nonzero(direction[2:]) == 0
    assert norm == pytest.approx((5 + 1 + 2 + 100 + 200 + 300) / 6)


@pytest.mark.parametrize("place", [INSIDE, ELSEWHERE])
def test_without_rows_of_both_kinds_there_is_no_direction(tmp_path, place):
    gone = {b: [NONE if p == place else p for p in places] for b, places in PLACES.items()}
    direction, norm = behaviour_direction(data(tmp_path / "store", gone))
    assert direction is None
    assert norm > 0


def test_the_runs_compared_with_are_of_the_distilled_model_and_of_the_base_on_the_same_noise(models, tokenizer):
    subject = make_subject(models, tokenizer, 20)
    trio = SimpleNamespace(tokenizers={"base": tokenizer}, end_ids={"base": ()})
    untouched, base = _untouched(subject, trio, chat=False)
    for name, found in (("distilled", untouched), ("base", base)):
        alone = make_subject(models, tokenizer, 20, name=name)
        wanted = alone.outcomes(alone.run(20, 1)[0])
        for outcome in OUTCOMES:
            assert np.array_equal(found.parts[outcome][0], wanted.parts[outcome][0])
    assert untouched.value("length") != base.value("length")


def right(n, of=100):
    values, ones = (np.arange(of) < n).astype(float), np.ones(of)
    return Outcomes(dict.fromkeys(OUTCOMES, (values, ones)))


def test_the_verdicts_file_holds_the_gain_over_the_base_and_what_every_model_does(tmp_path):
    """Untouched .8, base .3: a gain of .5, of which the loss of .2 is two fifths."""
    study = Study(check_config({"seed": 4, "causal": {"bound": 0.1, "resamples": 300}}, "here"), tmp_path)
    rows = [
        {"model": "base", "metric": "accuracy", "estimate": 0.3, "low": 0.2, "high": 0.4, "refused": None},
        {"model": "base", "metric": "accuracy_greedy", "estimate": 0.5, "low": 0.4, "high": 0.6, "refused": None},
        {"model": "base", "metric": "n", "estimate": 9.0, "low": 9.0, "high": 9.0, "refused": None},
        {"model": "control", "metric": "length", "estimate": None, "low": None, "high": None, "refused": "why"},
    ]
    (tmp_path / "traces").mkdir()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / "traces" / "summary.parquet")
    found = _verdict(study, right(80), right(30), {STYLE: Arm(right(60), [])})
    assert found["gain"]["estimate"] == pytest.approx(0.5)
    assert found["mediated_fraction"]["estimate"] == pytest.approx(0.4)
    assert found["arms"][STYLE]["drop"]["estimate"] == pytest.approx(0.2)
    assert (found["truth"], found["bound"], found["problems"], found["seed"]) == ("functional", 0.1, 100, 4)
    assert found["models"] == {
        "base": {
            "accuracy": {"estimate": 0.3, "low": 0.2, "high": 0.4},
            "accuracy_greedy": {"estimate": 0.5, "low": 0.4, "high": 0.6},
        },
        "control": {"length": {"refused": "why"}},
    }


@pytest.mark.parametrize(
    ("kind", "truth"), [("decorative", "decorative"), ("gated", "stylistic"), ("plain", "no gain")]
)
def test_the_truth_is_the_organisms_and_unknown_of_given_models(tmp_path, kind, truth):
    (tmp_path / "traces").mkdir()
    empty = {"model": pl.String, "metric": pl.String, "estimate": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    pl.DataFrame(schema=empty | {"refused": pl.String}).write_parquet(tmp_path / "traces" / "summary.parquet")
    given = {"checkpoints": {"base": "a", "distilled": "b", "zero_rl": "c"}}
    for changes, wanted in (({"organism": {"kind": kind}}, truth), (given, None)):
        study = Study(check_config(changes | {"causal": {"resamples": 100}}, "here"), tmp_path)
        assert _verdict(study, right(80), right(30), {STYLE: Arm(right(60), [])})["truth"] == wanted
