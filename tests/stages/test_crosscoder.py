"""What the stage adds to training: metrics that leave the machine only when asked, and measurements by name."""

import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from interp.activations.store import StoreWriter
from interp.config import check_config
from interp.errors import InterpError
from interp.stages import crosscoder
from interp.stages.crosscoder import _tracker
from interp.study import Study


def study(tmp_path, project):
    return Study(check_config({"crosscoder": {"wandb": project}}, "here"), tmp_path)


def test_nothing_is_sent_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert _tracker(None, study(tmp_path, None)) is None


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InterpError, match=r"crosscoder\.wandb = mine: wandb is not installed"):
        _tracker("mine", study(tmp_path, "mine"))


def test_a_run_carries_the_whole_config(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **given: asked.update(given) or "run"))
    assert _tracker("mine", study(tmp_path, "mine")) == "run"
    assert asked["project"] == "mine" and asked["config"]["crosscoder"]["wandb"] == "mine"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(evaluation, rows of metrics) of a stage whose base is pure noise, whose zero-RL model is one direction, and
    whose distilled model is in between; every fourth latent of a wide dictionary has something to do."""
    root = tmp_path_factory.mktemp("study")
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(3000, 1, generator=generator) * torch.ones(16)
    noise = torch.randn(3000, 3, 16, generator=generator)
    rows = torch.stack([noise[:, 0], signal + 0.5 * noise[:, 1], signal + 0.01 * noise[:, 2]], dim=1)
    (root / "activations").mkdir()
    writer = StoreWriter(root / "activations", ["base", "distilled", "zero_rl"], "blocks.1.hook_resid_post", 10_000)
    writer.add(rows)
    texts = [i // 20 for i in range(3000)]
    index = {"text": texts, "position": [i % 20 for i in range(3000)], "token": [5] * 3000}
    writer.close(pl.DataFrame(index | {"held_out": [text % 10 == 3 for text in texts]}))
    settings = {"shape": {"n_latents": 64, "k": 2}, "train": {"steps": 150, "batch_size": 256, "lr": 0.01}}
    study = Study(check_config({"seed": 3, "threads": 1, "device": "cpu", "crosscoder": settings}, "here"), root)
    out = root / "crosscoder"
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crosscoder, "_spliced", lambda *_: {})
        crosscoder.run(study, out)
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return json.loads((out / "evaluation.json").read_text()), log


def test_each_models_variance_explained_bears_its_name(measured):
    evaluation, log = measured
    assert evaluation["fve"]["base"] < 0.5 < evaluation["fve"]["distilled"] < 0.9 < evaluation["fve"]["zero_rl"]
    assert log[-1]["fve_base"] < 0.5 < log[-1]["fve_distilled"] < 0.9 < log[-1]["fve_zero_rl"]


def test_what_is_published_is_measured_on_the_rows_held_out(measured):
    """Too few rows pass for a latent to be dead in training; on the rows held out many are silent."""
    evaluation, log = measured
    assert log[-1]["dead"] == 0.0
    assert 0 < evaluation["dead"] == pytest.approx(evaluation["firing"]["dead"][0] / 64)
    assert (evaluation["rows_held_out"], evaluation["rows"]) == (300, 3000)
    assert evaluation["l0"] == pytest.approx(2, rel=0.05)
    assert (evaluation["k"], evaluation["n_latents"]) == (2, 64)
