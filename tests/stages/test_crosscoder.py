"""The stage's own part of training: the study's seed, units that are not repeated, texts that are spliced, and metrics
that leave the machine only when asked."""

import errno
import json
import os
import shutil
import sys
from functools import partial
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import small_model
from steering.samples import make_study

from interp.activations.store import StoreWriter, open_store
from interp.activations.texts import read_texts
from interp.config import check_config
from interp.crosscoder import Crosscoder, train_many
from interp.crosscoder.trainer import Trainer
from interp.errors import InterpError
from interp.folders import file_digest, writing
from interp.organisms.chains import CHAINS
from interp.stages import crosscoder as stage
from interp.stages.crosscoder import _control, _enough, _nulls, _tracker, other_seeds, spread
from interp.study import Study

NAMES = ["base", "distilled", "zero_rl"]
CONFIG = {
    "threads": 1,
    "device": "cpu",
    "crosscoder": {"shape": {"n_latents": 16, "k": 3}, "train": {"steps": 4, "batch_size": 128}, "null_steps": 0},
}
LOSSES = {name: {"untouched_loss": 1.5} for name in NAMES}


def study(root, **changes):
    return Study(check_config(CONFIG | changes, "here"), root)


@pytest.fixture
def root(tmp_path):
    """A study with a store of random rows."""
    folder = tmp_path / "study" / "activations"
    folder.mkdir(parents=True)
    rows = torch.randn(3000, len(NAMES), 8, generator=torch.Generator().manual_seed(0))
    writer = StoreWriter(folder, NAMES, "blocks.1.hook_resid_post", 3000)
    writer.add(rows)
    text = torch.arange(3000) // 10
    writer.close(
        pl.DataFrame(
            {"text": text.numpy(), "position": 0, "token": 0}
            | {"written_by": pl.Series([1] * 3000, dtype=pl.UInt8), "held_out": (text >= 200).numpy()}
        )
    )
    return tmp_path / "study"


@pytest.fixture
def calls(monkeypatch):
    """Numbers of trainings and splicings; the splicing is stubbed."""
    calls = {"train": [], "splice": 0}

    def train(store, configs, **rest):
        calls["train"].append(configs)
        return train_many(store, configs, **rest)

    def splice(study, store, out):
        calls["splice"] += 1
        assert (out / "model.safetensors").exists()
        return LOSSES

    monkeypatch.setattr(stage, "train_many", train)
    monkeypatch.setattr(stage, "_spliced", splice)
    return calls


def run(study):
    with writing(study.folder("crosscoder"), "k") as out:
        rows = stage.run(study, out)
        published = [p for p in sorted(out.rglob("*")) if p.is_file() and not p.name.startswith(".")]
        return rows, {str(p.relative_to(out)): file_digest(p) for p in published}


def test_what_it_writes(root, calls):
    rows, files = run(study(root))
    assert rows == 3000
    weights = {
        f"{folder}{name}" for folder in ("", "seed-1/", "seed-2/") for name in ("config.json", "model.safetensors")
    }
    assert set(files) == weights | {"metrics.jsonl", "evaluation.json", "nulls.parquet"}
    assert len({files[name] for name in weights if name.endswith("safetensors")}) == 3
    measured = json.loads((root / ".crosscoder.partial" / "evaluation.json").read_text())
    assert measured["spliced"] == LOSSES
    assert set(measured["fve"]) == set(NAMES)
    assert measured["rows"] == 3000 and measured["k"] == 3 and measured["n_latents"] == 16


@pytest.mark.parametrize("seed", [0, 5])
def test_it_trains_with_the_studys_seed(root, calls, seed):
    run(study(root, seed=seed))
    recipes = [recipe for _, recipe in calls["train"][0]]
    assert [recipe.seed for recipe in recipes] == [seed, seed + 1, seed + 2]
    assert {recipe.data_order_seed for recipe in recipes} == {seed}
    found = [(i, folder.name) for i, folder in other_seeds(root / ".crosscoder.partial")]
    assert found == [(1, "seed-1"), (2, "seed-2")]


def test_one_dictionary_has_no_other_seeds(root, calls):
    alone = CONFIG["crosscoder"] | {"dictionaries": 1}
    assert set(run(study(root, crosscoder=alone))[1]) == {
        "config.json",
        "model.safetensors",
        "metrics.jsonl",
        "evaluation.json",
        "nulls.parquet",
    }
    assert other_seeds(root / ".crosscoder.partial") == []


def test_the_first_dictionary_is_the_same_however_many_there_are(root, calls, monkeypatch):
    """To the bit: the others read the same batches and change nothing."""
    several = run(study(root))[1]["model.safetensors"]
    shutil.rmtree(root / ".crosscoder.partial")
    alone = CONFIG["crosscoder"] | {"dictionaries": 1}
    assert run(study(root, crosscoder=alone))[1]["model.safetensors"] == several


def test_another_seed_trains_another_crosscoder(tmp_path, root, calls):
    digests = [run(Study(study(root, seed=seed).config, root))[1]["model.safetensors"] for seed in (1,)]
    with writing(root / "crosscoder", "another key") as out:
        stage.run(study(root, seed=2), out)
        digests.append(file_digest(out / "model.safetensors"))
    assert digests[0] != digests[1]


def test_a_failure_while_the_weights_are_saved_loses_no_training(root, monkeypatch):
    """A full disk, say: the next run has nothing to update, and saves what would have been saved."""
    monkeypatch.setattr(stage, "_spliced", lambda *_: LOSSES)
    whole = run(Study(study(root).config, root))[1]
    shutil.rmtree(root / ".crosscoder.partial")
    updates, save, update = [], Crosscoder.save, Trainer.update

    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Trainer, "update", lambda self, rows: (updates.append(1), update(self, rows))[1])
    monkeypatch.setattr(Crosscoder, "save", fails)
    with pytest.raises(InterpError, match="the disk is full"):
        run(study(root))
    assert len(updates) == 4 * 3, "of three dictionaries"
    monkeypatch.setattr(Crosscoder, "save", save)
    assert run(study(root))[1] == whole
    assert len(updates) == 4 * 3


def test_a_failure_while_splicing_loses_no_training(root, calls, monkeypatch):
    """Splicing loads three models and computes whole vocabularies: the likeliest place to run out of memory."""
    splice = stage._spliced

    def fails(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(stage, "_spliced", fails)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            run(study(root))
    assert len(calls["train"]) == 1
    monkeypatch.setattr(stage, "_spliced", splice)
    _, resumed = run(study(root))
    assert len(calls["train"]) == 1 and calls["splice"] == 1
    assert run(study(root)) == (3000, resumed)
    assert len(calls["train"]) == 1 and calls["splice"] == 1  # both are finished units now
    with writing(root / "crosscoder", "another key") as out:
        stage.run(study(root), out)
        assert {name: file_digest(out / name) for name in resumed} == resumed
    assert len(calls["train"]) == 2


def test_damaged_weights_of_an_interrupted_run_are_trained_again(root, calls):
    _, whole = run(study(root))
    path = root / ".crosscoder.partial" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert run(study(root))[1] == whole
    assert len(calls["train"]) == 2


@pytest.mark.parametrize(("there", "wanted"), [(300, 256), (300, 300), (300, 7), (5, 256), (1, 1), (0, 4)])
def test_texts_are_spread_over_all_and_no_more_than_asked_for(there, wanted):
    numbers = spread(range(there), wanted)
    assert len(numbers) == min(there, wanted)
    assert len(set(numbers)) == len(numbers)
    if numbers:
        gaps = [b - a for a, b in zip(numbers, [*numbers[1:], there], strict=True)]
        assert numbers[0] == 0 and max(gaps) - min(gaps) <= 1


def tracked(tmp_path, project):
    return Study(check_config({"crosscoder": {"wandb": project}}, "here"), tmp_path)


def test_nothing_is_sent_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert _tracker(None, tracked(tmp_path, None)) is None


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InterpError, match=r"crosscoder\.wandb = mine: wandb is not installed"):
        _tracker("mine", tracked(tmp_path, "mine"))


def test_a_run_carries_the_whole_config(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **given: asked.update(given) or "run"))
    assert _tracker("mine", tracked(tmp_path, "mine")) == "run"
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
    text = torch.arange(3000) // 20
    places = {"text": text.numpy(), "position": torch.arange(3000).numpy() % 20, "token": 5}
    held_out = {"written_by": pl.Series([1] * 3000, dtype=pl.UInt8), "held_out": (text >= 120).numpy()}
    writer.close(pl.DataFrame(places | held_out))
    settings = {"shape": {"n_latents": 64, "k": 2}, "train": {"steps": 150, "batch_size": 256, "lr": 0.01}}
    out = root / "crosscoder"
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_spliced", lambda *_: {})
        patch.setattr(stage, "_nulls", lambda *_: pl.DataFrame())
        stage.run(study(root, crosscoder=settings), out)
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
    assert (evaluation["rows_held_out"], evaluation["rows"]) == (600, 3000)
    assert evaluation["l0"] == pytest.approx(2, rel=0.05)
    assert (evaluation["k"], evaluation["n_latents"]) == (2, 64)


# Nulls


@pytest.fixture(scope="module")
def trio_and_control(tmp_path_factory):
    """A study whose control is a copy of its distilled model."""
    models = {name: small_model(seed) for seed, name in enumerate(NAMES)}
    return make_study(tmp_path_factory.mktemp("nulls"), models | {"control": small_model(1)}, CHAINS.tokenizer())


def test_the_control_is_read_at_the_stores_own_rows(trio_and_control):
    store = open_store(trio_and_control.folder("activations"))
    texts = read_texts(store.folder / "texts.parquet")
    chosen = [1, 4, 30]
    here = store.index.with_row_index("row").filter(pl.col("text").is_in(chosen))
    rows = store.read(torch.from_numpy(here["row"].to_numpy().astype("int64")))
    control = _control(trio_and_control, store, {i: texts[i] for i in chosen}, here)
    assert len(control) == len(here) > 10 and here["text"].n_unique() > 1
    torch.testing.assert_close(control.float(), rows[:, NAMES.index("distilled")].float(), atol=0.05, rtol=0.02)
    other = rows[:, NAMES.index("base")].float()
    assert (control.float() - other).norm() > 0.5 * other.norm()


def test_the_nulls_of_a_study(trio_and_control):
    study = with_steps(trio_and_control, 5)
    told = _nulls(study)
    assert list(zip(told["first"], told["second"], strict=True)) == [
        ("base", "distilled"),
        ("distilled", "distilled"),
        ("distilled", "distilled, bf16 noise"),
        ("base", "control"),
        ("base", "distilled, other tokens"),
    ]
    assert len(_nulls(with_steps(trio_and_control, 0))) == 0


@pytest.mark.parametrize(
    ("threads", "steps", "device", "expected"),
    [
        (1, 9, "cpu", (1, 0)),
        (2, 9, "cpu", (1, 1)),
        (3, 9, "cpu", (2, 1)),
        (8, 9, "cpu", (6, 2)),
        (8, 0, "cpu", (8, 0)),
        (8, 9, "cuda", (8, 0)),
    ],
)
def test_the_nulls_have_a_third_of_the_threads(threads, steps, device, expected, monkeypatch):
    monkeypatch.setattr(stage, "pick_device", torch.device)
    raw = CONFIG | {"threads": threads, "device": device}
    config = check_config(raw | {"crosscoder": CONFIG["crosscoder"] | {"null_steps": steps}}, "here")
    assert stage.threads_of(config) == expected


def test_nulls_trained_beside_the_dictionaries_are_the_same(trio_and_control, monkeypatch, tmp_path):
    """By another process, with as many threads, to the bit; where they are finished, no process is started."""
    alone = _nulls(with_steps(trio_and_control, 5))
    study = with_steps(trio_and_control, 5, threads=2)
    monkeypatch.setattr(stage, "_spliced", lambda *_: LOSSES)
    monkeypatch.setattr(stage, "_nulls", partial(_not_here, os.getpid()))
    stage.run(study, tmp_path)
    assert pl.read_parquet(tmp_path / "nulls.parquet").equals(alone) and len(alone) == 5
    monkeypatch.setattr(stage, "beside", lambda *a: pytest.fail("they are finished"))
    stage.run(study, tmp_path)


def _not_here(pid, *given):
    assert os.getpid() != pid
    return _nulls(*given)


def with_steps(study, steps, **changes):
    raw = study.config.model_dump(mode="json") | changes
    small = {"shape": {"n_latents": 24, "k": 4}, "train": {"batch_size": 64}, "null_steps": steps}
    return Study(check_config(raw | {"crosscoder": small}, "here"), study.root)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_whole_texts_are_drawn_as_long_as_they_fit(text_of, most, seed):
    kept = _enough(sorted(text_of), most, seed)
    assert kept == sorted(set(kept)) and set(kept) <= set(text_of)
    held = sum(text in kept for text in text_of)
    assert held <= most
    if most >= len(text_of):
        assert kept == sorted(set(text_of))
