"""`interp.run`, `interp.Direction`, `interp.read_runs` and `interp.verdict` on small models."""

import polars as pl
import pytest
import torch
from small import D_MODEL

import interp
from interp.causal.arms import Arm
from interp.causal.edits import Add
from interp.causal.places import FORKS, where
from interp.causal.run import run
from interp.causal.runs import UNTOUCHED
from interp.directions import Provenance
from interp.errors import InterpError
from interp.models.hooks import Site
from interp.names import OUTCOMES
from tests.causal.runs import Table, answers

SMALL = {"problems": 8, "controls": 3, "control_problems": 4, "max_new_tokens": 10}


@pytest.fixture(scope="module")
def trio(models, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trio")
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return interp.load_trio(**{name: str(folder / name) for name in models}, device="cpu")


@pytest.fixture(scope="module")
def task():
    return interp.tasks.open("chains", terms=3)


@pytest.fixture
def v():
    vector = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(0))
    return interp.Direction(vector, 1, provenance=Provenance(residual_norm=8.0))


def moved(edit, h):
    return edit.change(h, {})


def test_a_dose_is_a_share_of_the_residuals_norm_whatever_the_vectors(v):
    h = torch.randn(4, D_MODEL)
    for direction in (v, interp.Direction.of(v.scaled(100.0))):
        step = moved(direction.add(-0.25), h) - h
        assert torch.allclose(step, (-2.0 * v.vector / v.norm).expand_as(h), atol=1e-5)
    assert torch.allclose(moved(v.add_raw(0.5), h) - h, (0.5 * v.vector).expand_as(h), atol=1e-5)


def test_a_direction_without_the_unit_refuses_a_dose_and_takes_a_factor():
    bare = interp.Direction(torch.ones(D_MODEL), 1)
    with pytest.raises(InterpError, match=r"use add_raw$"):
        bare.add(0.1)
    assert isinstance(bare.add_raw(0.1), Add)


def test_the_component_is_removed_or_set(v):
    h, unit = torch.randn(4, D_MODEL), v.vector / v.norm
    for edit, value in ((v.project_out(), 0.0), (v.set_to(3.0), 3.0), (v.set_to(-1.0), -1.0)):
        new = moved(edit, h)
        assert torch.allclose(new @ unit, torch.full((4,), value), atol=1e-5)
        assert torch.allclose(new - (new @ unit)[:, None] * unit, h - (h @ unit)[:, None] * unit, atol=1e-5)


def test_edits_lie_at_the_directions_site(v):
    middle = interp.Direction(v.vector, 2, "resid_mid", v.provenance)
    for edit in (middle.add(1.0), middle.add_raw(1.0), middle.project_out(), middle.set_to(1.0)):
        assert edit.site == middle.place == Site(2, "resid_mid")
    assert str(v.project_out().at(FORKS).where) == "forks"


def test_a_file_gives_back_the_same_direction_with_its_edits(v, tmp_path):
    v.save(tmp_path / "v.safetensors")
    again = interp.Direction.load(tmp_path / "v.safetensors", d_model=D_MODEL)
    assert isinstance(again, interp.Direction) and again == v
    assert again.add(0.1).describe() == v.add(0.1).describe()
    with pytest.raises(InterpError, match="16 coordinates, not 17"):
        interp.Direction.load(tmp_path / "v.safetensors", d_model=D_MODEL + 1)


def test_a_control_vector_holds_a_dose_of_one(v, tmp_path):
    v.export_gguf(tmp_path / "v.gguf", "llama", scale=1.0)
    again = interp.Direction.load(tmp_path / "v.gguf")
    h = torch.randn(3, D_MODEL)
    assert again.place == v.place
    assert torch.allclose(moved(again.add_raw(0.3), h), moved(v.add(0.3), h), atol=1e-5)


def test_every_kind_of_edit_gets_its_controls(trio, task, v, tmp_path):
    edits = [v.add(0.5), interp.edits.ban("default"), v.project_out()]
    runs = interp.run(trio, task, edits, out=tmp_path, **SMALL)
    assert list(runs.arms) == [edit.name for edit in edits]
    for edit, dose in ((edits[0], 0.5), (edits[2], None)):
        about = runs.arms[edit.name]
        assert about["control_name"] == "random directions, same norm"
        assert (about["site"], about["layer"], about["dose"]) == ("resid_post", 1, dose)
        assert runs.draws(edit.name) == [1, 2, 3]
    assert len(runs.rows(edits[0].name)) == 8 and len(runs.rows(edits[0].name, 1)) == 4
    assert runs.rows(edits[0].name)["fired"].min() > 0
    assert runs.texts(edits[0].name) != runs.texts(UNTOUCHED)
    assert set(runs.outcomes(edits[0].name).parts) == set(OUTCOMES)
    read = interp.read_runs(tmp_path)
    assert read.table.equals(runs.table)
    assert list(read.arms) == list(runs.arms)


def test_an_edit_is_named_by_its_dose_and_places(trio, task, v, tmp_path):
    """So that one edit at two places makes two arms."""
    edits = [v.add(0.5), v.add(0.5).at(FORKS), v.add_raw(2.0), v.project_out().at(FORKS) | interp.edits.ban("default")]
    runs = interp.run(trio, task, edits, out=tmp_path, **SMALL)
    assert list(runs.arms) == [
        "add +0.5 of a direction",
        "add +0.5 of a direction at forks",
        "add +2 times a direction",
        f"project a direction out at forks | {interp.edits.ban('default').name}",
    ]
    assert runs.arms["add +0.5 of a direction at forks"]["control_name"] == "random directions, same norm"


def test_controls_of_a_direction_differ_in_the_direction_alone(trio, task, v, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "interp.causal.public.run_arms", lambda setting, arms, *a, **k: seen.extend(arms) or run(setting, arms, *a, **k)
    )
    interp.run(trio, task, [v.add(-0.5).at(FORKS), v.set_to(3.0)], out=tmp_path, **SMALL)
    for arm, fields in zip(seen[-2:], (("scale", "dose", "where", "site"), ("value", "where", "site")), strict=True):
        assert len(arm.controls) == 3
        for control in arm.controls:
            assert all(getattr(control, name) == getattr(arm.edit, name) for name in fields)
            assert control.vector.norm() == pytest.approx(v.norm, rel=1e-5)
            assert abs(float(control.vector @ v.vector)) < 0.95 * v.norm**2


def test_effects_are_those_of_the_runs(trio, task, v, tmp_path):
    runs = interp.run(trio, task, [v.add(0.5), v.project_out()], out=tmp_path, **SMALL)
    found = interp.effects(runs, resamples=100)
    assert found.height == 2 * 2 * len(OUTCOMES), "two arms, sampled and greedy"
    name = "add +0.5 of a direction"
    (row,) = found.filter(arm=name, outcome="length", decoding="sampled").iter_rows(named=True)
    after, before = (runs.rows(arm)["n_tokens"].mean() for arm in (name, UNTOUCHED))
    assert row["estimate"] == pytest.approx(after - before) and row["dose"] == 0.5 and row["n_controls"] == 3


def test_an_arm_that_never_acted_is_marked_and_has_no_p(trio, task, v, tmp_path):
    never = v.add(0.5).at(where("never", lambda text: False))
    runs = interp.run(trio, task, [never, v.add(0.5)], out=tmp_path, **SMALL)
    found = interp.effects(runs, resamples=100)
    quiet = found.filter(pl.col("arm") == "add +0.5 of a direction at never")
    assert not quiet["coherent"].any() and quiet["p"].null_count() == len(quiet)
    assert quiet["note"].str.contains("the edit never fired|nothing to divide by").all()
    assert (quiet["estimate"].drop_nulls() == 0).all()


def test_what_is_there_is_not_run_again(trio, task, v, tmp_path, monkeypatch):
    first = interp.run(trio, task, [v.add(0.5)], out=tmp_path, **SMALL)
    monkeypatch.setattr("interp.causal.run.write", None)
    assert interp.run(trio, task, [v.add(0.5)], out=tmp_path, **SMALL).table.equals(first.table)
    with pytest.raises(TypeError):
        interp.run(trio, task, [v.add(0.6)], out=tmp_path, **SMALL)


def test_an_arm_keeps_its_own_controls_models_and_name(trio, task, v, tmp_path):
    arm = Arm("mine", v.add(1.0), models=("zero_rl", "base"), problems=5).with_controls(v.add(-1.0), name="backwards")
    runs = interp.run(trio, task, [arm], out=tmp_path, **SMALL)
    assert runs.draws("mine", "zero_rl") == [1] and runs.draws("mine", "base") == []
    assert len(runs.rows("mine", 0, "base")) == 5
    assert not runs.has("mine")
    assert runs.has(UNTOUCHED)  # of the edited model, whatever the arms


def test_another_model_can_be_edited(trio, task, v, tmp_path):
    runs = interp.run(trio, task, [v.add(1.0)], on="base", out=tmp_path, **SMALL)
    name = v.add(1.0).name
    assert runs.has(name, 0, "base") and not runs.has(name)


def test_at_temperature_0_there_is_one_decoding(trio, task, v, tmp_path):
    runs = interp.run(trio, task, [v.project_out()], out=tmp_path, temperature=0.0, **SMALL)
    assert set(runs.table["decoding"]) == {"sampled"}


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (lambda v: [interp.Direction(torch.ones(D_MODEL + 1), 1).add_raw(1.0)], "width is 17, that of .* is 16"),
        (lambda v: [interp.Direction(v.vector, 3).add_raw(1.0)], "blocks 0 to 2"),
        (lambda v: [v.add(1.0), v.add(1.0)], "occurs twice"),
        (lambda v: [Arm("mine", v.add(1.0), models=("control",))], "no model 'control'"),
    ],
)
def test_what_does_not_fit_is_refused(trio, task, v, tmp_path, edits, said):
    with pytest.raises(InterpError, match=said):
        interp.run(trio, task, edits(v), out=tmp_path, **SMALL)


def test_runs_that_are_not_there(tmp_path):
    with pytest.raises(InterpError, match="no runs; give the folder"):
        interp.read_runs(tmp_path)


def test_a_verdict_is_read_from_runs():
    table = Table().untouched("distilled", answers(0.8, 200), markers=3.0).untouched("base", answers(0.3, 200))
    found = interp.verdict(table.runs(), resamples=200)
    assert found.gain.estimate == pytest.approx(0.5)
