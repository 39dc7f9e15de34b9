"""Removal, addition and export of a direction, on a study of small models."""

import polars as pl
import pytest
import torch

from interp.causal.steering import Direction
from interp.directions import load
from interp.errors import InterpError
from interp.names import OUTCOMES
from interp.steering import run
from interp.steering.inputs import Inputs
from interp.steering.tables import markdown
from tests.steering.samples import changed

pytestmark = pytest.mark.usefixtures("stages_are_there")


def test_it_is_projected_out_of_two_models_and_added_in_base(shared, capsys):
    run(shared, "make")
    capsys.readouterr()
    run(shared, "ablate")
    folder = shared.folder("steering")
    shown = (folder / "table.md").read_text()
    assert shown in capsys.readouterr().out
    for word in ("style (Markers", "function (Verification", "redone steps", "accuracy (Accuracy", "length (Length"):
        assert word in shown
    effects = pl.read_parquet(folder / "ablation.parquet").filter(pl.col("outcome") == "length")
    mine = effects.filter(~pl.col("family").str.contains("covariance"), pl.col("decoding") == "sampled")
    assert mine.select("family", "model", "n_controls").rows() == [
        ("ablation", "distilled", 20),
        ("ablation", "zero_rl", 20),
        ("addition", "base", 20),
    ]
    assert mine["fired"].min() > 0


def test_an_export_is_read_back_as_a_dose_of_one(shared, capsys):
    run(shared, "make")
    run(shared, "export")
    direction, path = Inputs(shared).direction(), shared.folder("steering") / "direction.gguf"
    again = load(path)
    assert again.hook_name == direction.hook_name
    assert torch.allclose(again.vector, direction.unit().vector * direction.provenance.residual_norm, rtol=1e-5)
    assert again.provenance.model == "qwen2"  # the hint
    assert "not measured; run `interp steer dose`" in capsys.readouterr().out
    run(changed(shared, model_hint="mine"), "export")
    assert load(path).provenance.model == "mine"


def test_block_0_is_not_exported(shared, tmp_path):
    Direction(torch.ones(16), 0).save(tmp_path / "v.safetensors")
    study = changed(shared, source="file", file=str(tmp_path / "v.safetensors"))
    run(study, "make")
    with pytest.raises(InterpError, match="cannot reach block 0"):
        run(study, "export")


def row(arm, outcome, **values):
    empty = dict.fromkeys(("low", "high", "control_mean", "control_low", "control_high", "p_holm"))
    about = {"family": "ablation", "arm": arm, "model": "distilled", "decoding": "sampled", "outcome": outcome}
    return about | empty | {"untouched": 0.5, "estimate": -0.1, "coherent": True, "note": ""} | values


def test_the_table_has_effects_controls_p_and_what_failed():
    rows = [row("out", o) for o in OUTCOMES]
    numbers = {"low": -0.2, "high": 0.05, "control_low": -0.01, "control_high": 0.02, "p_holm": 0.03}
    rows += [row("bad", o, coherent=False, note="the text repeats itself", **numbers) for o in OUTCOMES]
    doses = [row(f"add {d:+g} forks", o, family="steering") for d in (-0.2, 0.1, 0.4) for o in OUTCOMES]
    frames = [
        pl.DataFrame(r, infer_schema_length=None, schema_overrides=dict.fromkeys(numbers, pl.Float64))
        for r in (rows, doses)
    ]
    lines = markdown(*frames, {"forks": [-0.2, 0.1]}).splitlines()
    body = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:6]}
    assert list(body) == ["out", "bad", "add -0.2 forks", "add +0.1 forks"]
    assert "50.0, −10.0 [−20.0, +5.0] (−1.0 to +2.0), p .030" in body["bad"]
    assert "the text repeats itself" in body["bad"] and "repeats" not in body["out"]
