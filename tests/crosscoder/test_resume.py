"""A killed training resumes to the same bits, and never from another training's state."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
from interp.crosscoder.fit import FILE, load_checkpoint
from interp.errors import InterpError
from interp.locks import locked

from .samples import CONFIG, planted_rows, random_rows

SHAPES = {
    "batch_topk": (CONFIG.model_copy(update={"n_dedicated": 2}), {"k_start": 12}),
    "topk": (CONFIG.model_copy(update={"activation": "topk"}), {}),
    "jumprelu": (CONFIG.model_copy(update={"activation": "jumprelu", "k": None}), {"sparsity": 0.05}),
    "relu": (CONFIG.model_copy(update={"activation": "relu", "k": None}), {"sparsity": 0.05}),
}


class KilledError(Exception):
    pass


def recipe(**changes):
    """A training in which latents die within the first steps, so that AuxK is at work before and after any stop."""
    base = {"steps": 60, "batch_size": 64, "lr": 2e-2, "log_every": 10, "dead_after_rows": 192, "k_aux": 2}
    return TrainConfig(**base | changes)


def run(folder, rows, pair, *, stop_at=None, every=20):
    def stop(step, _):
        if step == stop_at:
            raise KilledError

    return train_many(rows, [pair], checkpoint=folder, checkpoint_every=every, on_step=stop)[0]


def assert_same(one, other):
    for name, tensor in one.crosscoder.state_dict().items():
        assert torch.equal(tensor, other.crosscoder.state_dict()[name]), name
    assert one.log == other.log
    assert torch.equal(one.held_out.firing, other.held_out.firing)


@pytest.mark.parametrize("stop_at", [30, 40, 50])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, kind, stop_at):
    shape, changes = SHAPES[kind]
    rows, pair = random_rows(1500), (shape, recipe(**changes))
    whole = run(None, rows, pair)
    if kind == "batch_topk":
        assert all(row["dead_share"] > 0 and row["aux"] > 0 for row in whole.log[1:])
    with pytest.raises(KilledError):
        run(tmp_path / "run", rows, pair, stop_at=stop_at)
    assert (tmp_path / "run" / FILE).exists()
    assert_same(run(tmp_path / "run", rows, pair), whole)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [FILE], "a finished run leaves its last state alone"
    assert_same(run(tmp_path / "run", rows, pair, stop_at=60), whole)  # from which no step is left


def test_a_stopped_stream_goes_on_too(tmp_path):
    rows, pair = random_rows(1500), (CONFIG, recipe(shuffle_rows=400))
    whole = run(None, list(rows.split(70)), pair)
    with pytest.raises(KilledError):
        run(tmp_path, list(rows.split(70)), pair, stop_at=30)
    assert_same(run(tmp_path, list(rows.split(70)), pair), whole)


SCRIPT = """
import sys, time, torch
from pathlib import Path
from interp.crosscoder import CrosscoderConfig, TrainConfig, train_many
torch.set_num_threads(1)
rows, shape, recipe = torch.load(sys.argv[1]), CrosscoderConfig(**{shape}), TrainConfig(**{recipe})
train_many(rows, [(shape, recipe)], checkpoint=Path(sys.argv[2]), checkpoint_every=50,
           on_step=lambda step, _: time.sleep(0.02))[0].crosscoder.save(Path(sys.argv[2]) / "done")
"""


def test_kill_minus_nine(tmp_path):
    """A process of its own, killed without warning after its first checkpoint; another finishes its work."""
    shape = CrosscoderConfig(n_models=3, d_model=24, n_latents=60, k=4)
    settings = TrainConfig(steps=400, batch_size=128, lr=3e-3, log_every=10, seed=3)
    torch.save(planted_rows(3000), tmp_path / "rows.pt")
    script = SCRIPT.replace("{shape}", repr(shape.model_dump())).replace("{recipe}", repr(settings.model_dump()))
    command = [sys.executable, "-c", script, str(tmp_path / "rows.pt")]
    killed, folder = subprocess.Popen([*command, str(tmp_path / "run")]), tmp_path / "run"
    while not (folder / FILE).exists():
        assert killed.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "done").exists()
    identity = json.loads(json.dumps(_identity(folder)))
    assert 50 <= int(load_checkpoint(folder, identity).tensors["0.step"]) < 400
    subprocess.run([*command, str(folder)], check=True)
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    resumed, whole = ((tmp_path / name / "done" / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert resumed == whole


def _identity(folder: Path):
    from safetensors import safe_open

    with safe_open(folder / FILE, framework="pt") as file:
        return json.loads(file.metadata()["identity"])


@pytest.mark.parametrize(
    ("shape", "changes", "said"),
    [
        ({"k": 5}, {}, r"crosscoder\.k = 4, now 5"),
        ({"n_latents": 41}, {}, r"n_latents = 40, now 41"),
        ({}, {"lr": 1e-3}, r"training\.lr = 0\.02, now 0\.001"),
        ({}, {"seed": 1}, r"training\.seed = 0, now 1"),
        ({}, {"steps": 80}, r"training\.steps = 60, now 80"),
    ],
)
def test_another_config_does_not_go_on(tmp_path, shape, changes, said):
    rows = random_rows(1500)
    with pytest.raises(KilledError):
        run(tmp_path, rows, (CONFIG, recipe()), stop_at=30)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(InterpError, match=said):
        run(tmp_path, rows, (CONFIG.model_copy(update=shape), recipe(**changes)))
    assert (tmp_path / FILE).read_bytes() == before


def test_other_data_does_not_go_on(tmp_path):
    rows = random_rows(1500)
    with pytest.raises(KilledError):
        run(tmp_path, rows, (CONFIG, recipe()), stop_at=30)
    rows[700, 1, 1] += 0.25
    with pytest.raises(InterpError, match=r"with data = '.*use that training's settings and data"):
        run(tmp_path, rows, (CONFIG, recipe()))


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, random_rows(1500), (CONFIG, recipe()), stop_at=30)
    path = tmp_path / FILE
    whole = path.read_bytes()
    for torn in (whole[:-30], whole[:40], b""):
        path.write_bytes(torn)
        with pytest.raises(InterpError, match=r"training\.safetensors: damaged .*; remove it to train anew$"):
            run(tmp_path, random_rows(1500), (CONFIG, recipe()))


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, random_rows(1500), (CONFIG, recipe()), stop_at=30)
    path, identity = tmp_path / FILE, _identity(tmp_path)
    whole = path.read_bytes()
    assert load_checkpoint(tmp_path, identity) is not None
    for place in [*range(8, 4000, 97), *range(4000, len(whole), 997)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InterpError, match=r"training\.safetensors: damaged"):
            load_checkpoint(tmp_path, identity)


def test_a_diverged_training_saves_nothing(tmp_path):
    """Even where no metrics are due, since a state with NaN could never be resumed to any good."""
    rows, pair = random_rows(1500), (CONFIG, recipe(lr=1e39, log_every=50))
    with pytest.raises(InterpError, match=r"holds NaN or infinite values after step 20; lower lr"):
        run(tmp_path, rows, pair)
    assert not list(tmp_path.iterdir())


def test_two_trainings_never_share_a_state(tmp_path):
    rows = random_rows(400)
    with locked(tmp_path / "state"), pytest.raises(InterpError, match="another run is writing"):
        run(tmp_path / "state", rows, (CONFIG, recipe()))
    assert not (tmp_path / "state").exists()
    run(tmp_path / "state", rows, (CONFIG, recipe()))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
