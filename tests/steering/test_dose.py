"""Doses, removal and export on small models: a planted direction, the wiring of every arm, resuming, the files."""

import json

import polars as pl
import pytest
import torch

import interp.causal.run as causal_run
from interp.causal.places import Places
from interp.causal.runs import UNTOUCHED, read_runs
from interp.causal.steering import Direction
from interp.directions import Provenance
from interp.errors import InterpError
from interp.models.hooks import Site
from interp.names import OUTCOMES
from interp.steering import arms, dose, run
from interp.steering.arms import Controls, ablation_arms, dose_arms
from interp.steering.inputs import Inputs
from tests.causal.runs import make_setting
from tests.steering.samples import changed, make_study

pytestmark = pytest.mark.usefixtures("stages_are_there")

LAST = 2
"""The last block."""


def controls_of(direction, n=4):
    drawn = tuple(map(Direction.of, dose.Controls.of(direction, torch.randn(50, direction.d_model), SMALL, 0).drawn))
    return Controls(drawn[:n], n, 8)


class SMALL:
    """A section's numbers of controls."""

    controls, covariance_controls, control_problems = 20, 3, 8


def planted(model, token):
    """The direction at the last block's output that makes the model write a token, and its opposite that forbids it."""
    rows = model.lm_head.weight.detach()
    away = rows[token] - rows.mean(0)
    return Direction(away, LAST, provenance=Provenance(residual_norm=50.0))


def share(runs, name, token, model="distilled"):
    ids = [i for row in runs.rows(name, 0, model)["completion_ids"].to_list() for i in row]
    return ids.count(token) / max(1, len(ids))


def test_a_planted_direction_does_what_it_must_by_sign_and_dose(models, tokenizer, tmp_path):
    setting = make_setting(models, tokenizer, 12)
    token, direction = 9, planted(models["distilled"], 9)
    none = Controls((), 0, 8)
    group = dose_arms(direction, (-3.0, -0.3, 0.0, 0.3, 3.0), "everywhere", ("distilled", "base"), 0, none)
    runs = causal_run.run(setting, group, tmp_path)
    plain = share(runs, UNTOUCHED, token)
    at = {d: share(runs, arms.dose_name(d, "everywhere"), token) for d in (-3, -0.3, 0.3, 3)}
    assert at[-3] <= at[-0.3] <= plain <= at[0.3] <= at[3]
    assert at[-3] == 0.0 < plain and at[3] > max(0.4, 2 * plain)
    assert runs.rows("add +3 everywhere", 0, "base")["fired"].min() > 0
    assert not runs.has("add +3 everywhere", 0, "zero_rl")


def test_projecting_out_takes_away_what_adding_gave(models, tokenizer, tmp_path):
    """Both at once, the removal last, is the removal alone."""
    setting = make_setting(models, tokenizer, 8)
    direction = planted(models["distilled"], 9)
    out, add = direction.project_out(), direction.add(2.0)
    both = arms.Arm("both", add | out)
    runs = causal_run.run(setting, [both, arms.Arm("out", out)], tmp_path)
    assert runs.texts("both") == runs.texts("out") != runs.texts(UNTOUCHED)


@pytest.mark.parametrize(("where", "name"), [("everywhere", "after 2"), ("forks", "forks")])
@pytest.mark.parametrize("value", [-0.2, 0.4])
def test_an_arm_is_its_dose_unit_site_place_and_models(where, name, value):
    direction = Direction(torch.arange(1.0, 17.0), 1, "resid_mid", Provenance(residual_norm=7.0))
    controls = controls_of(direction)
    (arm,) = dose_arms(direction, (value, 0.0), where, ("distilled", "base"), 2, controls)
    for edit, one in zip((arm.edit, *arm.controls), (direction, *controls.drawn), strict=True):
        assert edit.site == Site(1, "resid_mid")
        assert str(edit.where) == name
        moved = edit.change(torch.zeros(1, 16), {})[0]
        assert moved.norm() == pytest.approx(abs(value) * 7.0, rel=1e-5)
        assert torch.cosine_similarity(moved, one.vector, dim=0) == pytest.approx(1 if value > 0 else -1, abs=1e-5)
    assert (arm.name, arm.dose, arm.models) == (f"add {value:+g} {where}", value, ("distilled", "base"))
    assert (arm.site, arm.layer, arm.control_problems, len(arm.controls)) == ("resid_mid", 1, 8, 4)


def test_a_draw_is_one_direction_at_every_dose():
    direction = Direction(torch.randn(16), 1, provenance=Provenance(residual_norm=1.0))
    low, high = dose_arms(direction, (-1.0, 1.0), "everywhere", ("distilled",), 0, controls_of(direction))
    for a, b in zip(low.controls, high.controls, strict=True):
        assert torch.equal(a.vector, b.vector) and a.scale == -b.scale


def test_each_removal_and_addition_has_its_model_and_controls():
    direction = Direction(3.0 * torch.eye(16)[2], 1, provenance=Provenance(residual_norm=10.0))
    found = ablation_arms(direction, "everywhere", ("distilled", "zero_rl"), ("base",), None, 0, controls_of(direction))
    assert [(a.models, a.family, len(a.controls)) for a in found] == [
        (("distilled",), "ablation", 4),
        (("zero_rl",), "ablation", 4),
        (("base",), "addition", 4),
    ]
    h = torch.randn(5, 16)
    assert found[1].edit.change(h, {})[:, 2].abs().max() < 1e-6
    assert torch.allclose(found[2].edit.change(h, {}) - h, direction.vector.expand(5, 16), atol=1e-5)
    assert found[2].dose == pytest.approx(0.3)
    (given,) = ablation_arms(direction, "everywhere", (), ("base",), 0.5, 0, controls_of(direction))
    assert torch.allclose(given.edit.change(h, {}) - h, 5 * torch.eye(16)[2].expand(5, 16), atol=1e-5)


def test_without_the_unit_of_a_dose_it_is_refused():
    bare = Direction(torch.randn(16), 1)
    with pytest.raises(InterpError, match="does not state the residual's mean norm"):
        dose_arms(bare, (0.1,), "everywhere", ("distilled",), 0, Controls((), 0, 8))


def test_doses_are_run_beside_both_controls_and_resumed(shared, monkeypatch):
    """Then the same again, in which nothing is written anew but what is missing."""
    drawn = []
    monkeypatch.setattr(dose, "save", lambda drawing, to: drawn.append((drawing, to)))
    run(shared, "make")
    vector = Inputs(shared).direction().vector
    run(shared, "dose")
    folder = shared.folder("steering")
    effects = pl.read_parquet(folder / "effects.parquet")
    assert set(effects["outcome"]) == set(OUTCOMES)
    assert set(effects["model"]) == {"base", "distilled", "zero_rl"}
    assert set(effects["dose"]) == {-2.0, 2.0}
    beside = effects.filter(pl.col("n_controls").is_not_null(), pl.col("outcome") == "accuracy")
    assert set(beside.select("family", "model", "n_controls").rows()) == {
        ("steering", "distilled", 20),
        ("steering, covariance", "distilled", 3),
    }
    assert [(d.name, f) for d, f in drawn] == [
        (f"doses_{model}", folder / "figures") for model in ("distilled", "base", "zero_rl")
    ]
    direction = Inputs(shared).direction()
    assert torch.equal(direction.vector, vector)
    evidence = direction.provenance.evidence
    assert set(evidence["usable_range"]) == {"base", "distilled", "zero_rl"}
    low, high = evidence["usable_range"]["distilled"]["everywhere"]
    assert low in (-2, 0) and high in (0, 2)
    assert len(evidence["dose_response"]) == 2 * 3 * len(OUTCOMES)

    parts = json.loads((folder / "runs" / "index.json").read_text())["parts"]
    (folder / "runs" / f"{parts[-1]}.parquet").unlink()
    written, write = [], causal_run.write
    monkeypatch.setattr(causal_run, "write", lambda *given: written.append(given) or write(*given))
    kept = {p: p.stat().st_mtime_ns for p in (folder / "runs").glob("*.parquet")}
    before = effects
    run(shared, "dose")
    assert len(list((folder / "runs").glob("*.parquet"))) == len(kept) + 1
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert pl.read_parquet(folder / "effects.parquet").equals(before)
    assert len(written) == 1  # the one batch that was missing
    assert len(read_runs(folder / "runs").arms) == 2


def test_places_that_never_occur_are_left_out_and_said(shared, monkeypatch, capsys):
    run(shared, "make")
    never = Places("never", lambda reading: torch.zeros_like(reading.real))
    monkeypatch.setitem(arms.PLACES, "forks", lambda _skip: never)
    inputs = Inputs(shared)
    direction, none = inputs.direction(), Controls((), 0, 8)
    groups = {w: dose_arms(direction, (-1.0, 1.0), w, ("distilled",), 2, none) for w in ("everywhere", "forks")}
    assert list(dose.that_occur(groups, inputs.setting, inputs)) == ["everywhere"]
    assert "where = forks: no such place in 8 texts" in capsys.readouterr().out
    with pytest.raises(InterpError, match=r"none of steering\.where = forks occurs"):
        run(changed(shared, where=["forks"]), "dose")


def test_a_dose_needs_a_direction(models, tokenizer, tmp_path):
    study = make_study(tmp_path, models, tokenizer)
    for action in ("dose", "ablate", "export"):
        with pytest.raises(InterpError, match="run `interp steer make` first"):
            run(study, action)
