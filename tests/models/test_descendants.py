"""Making checkpoints: adapters, resuming to the bit after a kill, the device, and warnings before reinforcement."""

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import TrainerCallback

from interp.config import DistillationConfig, ZeroRLConfig
from interp.errors import InterpError
from interp.locks import locked
from interp.models import descendants
from interp.models.descendants import Distilled, Reinforced, job, make_arm, read_log, training_table
from interp.models.training import Document, reading_order, supervise
from interp.tasks.chains import ChainTask
from tests.small import small_model

TASK = ChainTask(3)
PROBLEMS = TASK.problems(24, 0, "train")
DOCUMENTS = [Document(p.prompt, f"{' '.join(p.prompt.split()[1:4])} = 2 #### {p.answer}") for p in PROBLEMS]
SCRIPT = """
import sys, time
from interp.models.descendants import make_arm
sys.path.insert(0, {root!r})
{first}
from tests.models.test_descendants import arm
def tick(done):
    print(done, flush=True)
    time.sleep(0.2)
make_arm(arm({kind!r}, {base!r}), __import__("pathlib").Path({out!r}), 1, tick)
"""


KILLED_WHILE_SAVING = """
import os, signal
from transformers import TrainerState
save = TrainerState.save_to_json
def torn(state, path):
    if state.global_step == 4:
        open(path, "w").write("{")
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, path)
TrainerState.save_to_json = torn
"""


class Parity(ChainTask):
    """Grades by length, so that rewards vary within a group and something is learned."""

    def correct(self, problem, completion):
        return len(completion) % 2 == 0


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("base")
    small_model(0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def arm(kind, base):
    if kind == "zero_rl":
        recipe = ZeroRLConfig(
            steps=6, completions=8, group_size=4, max_new_tokens=6, micro_batch=4, lora_rank=2, save_every=2
        )
        return Reinforced(base, PROBLEMS, Parity(3), recipe, 0)
    rank = 2 if kind == "adapters" else 0
    return Distilled(base, DOCUMENTS, DistillationConfig(steps=6, batch_size=4, lora_rank=rank, save_every=2), 0)


def weights(folder):
    return {n: t for file in sorted(folder.glob("*.safetensors")) for n, t in load_file(file).items()}


@pytest.mark.parametrize(
    ("kind", "first", "again"),
    [("distilled", KILLED_WHILE_SAVING, [3, 4, 5, 6]), ("adapters", "", [5, 6]), ("zero_rl", "", [5, 6])],
)
def test_a_killed_training_resumes_to_the_same_bits(kind, first, again, base, tmp_path, capfd):
    """It is killed after update 5, or in the middle of saving the state of update 4."""
    make_arm(arm(kind, base), tmp_path / "whole", 1, lambda done: None)
    out, root = tmp_path / "killed", str(Path.cwd())
    code = SCRIPT.format(root=root, first=first, kind=kind, base=base, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not out.exists() and (tmp_path / ".killed.trainer" / "checkpoint-4").exists()
    seen = []
    make_arm(arm(kind, base), out, 1, seen.append)
    assert seen == again
    said = " ".join(capfd.readouterr().err.split())
    assert f"resuming from checkpoint-{again[0] - 1}" in said
    assert ("checkpoint-4 is incomplete and was removed" in said) == bool(first)
    whole, killed = weights(tmp_path / "whole"), weights(out)
    assert whole.keys() == killed.keys() and len(whole) > 3
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not (tmp_path / ".killed.trainer").exists()
    assert any(tensor.abs().max() > 0 for name, tensor in whole.items() if "lora_B" in name or kind == "distilled")


class Interrupted:
    """An arm whose training notes torch's settings and the model's device, and fails."""

    save_every = 0
    recipe = DistillationConfig(steps=1)

    def __init__(self):
        self.seen = []

    def start(self):
        return torch.nn.Linear(2, 2), None

    def train(self, model, tokenizer, callbacks, resume):
        self.seen.append((settings_now(), model.weight.device.type))
        raise KeyboardInterrupt


def settings_now():
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


@pytest.mark.parametrize("mode", [(False, False, True), (True, False, True), (True, True, False)])
def test_torchs_settings_are_as_before_also_after_an_error(mode, tmp_path):
    original = settings_now()
    try:
        torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])
        torch.utils.deterministic.fill_uninitialized_memory = mode[2]
        before, arm = settings_now(), Interrupted()
        with pytest.raises(KeyboardInterrupt):
            make_arm(arm, tmp_path / "made", 2, lambda done: None)
        assert arm.seen == [((2, True, True, False), "cpu")] or torch.cuda.is_available()
        assert settings_now() == before
    finally:
        torch.set_num_threads(original[0])
        torch.use_deterministic_algorithms(original[1], warn_only=original[2])
        torch.utils.deterministic.fill_uninitialized_memory = original[3]


def test_the_model_is_trained_on_the_device_that_is_asked_for(tmp_path, monkeypatch):
    devices = {"cpu": torch.device("cpu"), "cuda": torch.device("meta")}  # another device, on any machine
    monkeypatch.setattr(descendants, "pick_device", devices.__getitem__)
    for asked, found in (("cpu", "cpu"), ("cuda", "meta")):
        arm = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            job("one", arm, tmp_path / "made", device=asked).work(lambda done: None)
        assert arm.seen[0][1] == found


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"metric": "loss", "points": [1], "left_out": 0}', "null"])
def test_a_log_of_another_program_is_one_line(text, tmp_path):
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(InterpError, match=r"training\.json: not a training log of this project; remove or rename"):
        training_table({"base": str(tmp_path)})


def test_the_training_table_has_every_models_points(base, tmp_path):
    make_arm(arm("distilled", base), tmp_path / "made", 1, lambda done: None)
    log = read_log(tmp_path / "made")
    table = training_table({"base": base, "distilled": str(tmp_path / "made")})
    assert table.rows() == [("distilled", step, "loss", value) for step, value in log.points]
    assert [step for step, _ in log.points] == list(range(1, 7))


def test_two_processes_never_train_one_checkpoint(base, tmp_path):
    with locked(tmp_path / "made"), pytest.raises(InterpError, match="another run is writing"):
        make_arm(arm("distilled", base), tmp_path / "made", 1, lambda done: None)
    assert list(tmp_path.iterdir()) == []


def test_adapters_alone_are_saved_and_learn(base, tmp_path):
    make_arm(arm("adapters", base), tmp_path / "made", 1, lambda done: None)
    kept = weights(tmp_path / "made")
    assert all("lora" in name for name in kept)
    assert any(t.abs().max() > 0 for name, t in kept.items() if "lora_B" in name)
    assert read_log(tmp_path / "made").name == "loss"


@pytest.mark.parametrize(("answers", "what"), [("none", "none of 24"), ("all", "all of 24")])
def test_a_base_that_has_nothing_to_learn_from_is_named_before_training(answers, what, base, tmp_path, capfd):
    class Rigged(ChainTask):
        def correct(self, problem, completion):
            return answers == "all"

    recipe = ZeroRLConfig(steps=1, completions=8, group_size=4, max_new_tokens=4)
    make_arm(Reinforced(base, PROBLEMS, Rigged(3), recipe, 0), tmp_path / "made", 1, lambda done: None)
    said = " ".join(capfd.readouterr().err.split())
    assert f"the base solves {what} problems" in said
    assert "step 1: every completion of a problem has the same reward" in said


def test_documents_beyond_the_context_are_counted_and_left_out(tokenizer, capfd):
    model = small_model(0).requires_grad_(True)
    long = Document("Q 1 + 1 A", "7 " * 300)
    log = supervise(model, tokenizer, [*DOCUMENTS, long], DistillationConfig(steps=1, batch_size=4), 0)
    assert log.left_out == 1
    assert "1 of 25 documents are longer than 256 tokens" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(InterpError, match="all 1 documents are longer than the model's context of 256"):
        supervise(model, tokenizer, [long], DistillationConfig(steps=1, batch_size=4), 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 9))
def test_every_document_is_read_once_an_epoch_and_an_update_by_length(lengths, updates, batch_size):
    order = reading_order(lengths, updates, batch_size, 0)
    assert len(order) == updates * batch_size
    seen = Counter(order)
    assert max(seen.values()) - min(seen[i] for i in range(len(lengths))) <= 1
    for start in range(0, len(order), batch_size):
        of_update = [lengths[i] for i in order[start : start + batch_size]]
        assert of_update == sorted(of_update)


def test_an_update_in_parts_has_the_gradient_of_the_whole(tokenizer):
    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            kept.append({name: weight.grad.clone() for name, weight in model.named_parameters()})

    kept = []
    uneven = [Document(d.prompt, d.completion + " ; 1 + 1 = 2" * (i % 4)) for i, d in enumerate(DOCUMENTS)]
    for at_once in (8, 2):
        model = small_model(0).requires_grad_(True)
        recipe = DistillationConfig(steps=1, batch_size=8, micro_batch=at_once)
        supervise(model, tokenizer, uneven, recipe, 0, callbacks=[Keep()])
    whole, parts = kept
    assert all(torch.allclose(whole[name], parts[name], rtol=1e-4, atol=1e-6) for name in whole)
    assert max(grad.abs().max() for grad in whole.values()) > 1e-2


@pytest.mark.parametrize("kind", ["distilled", "adapters"])
def test_the_last_blocks_stay_the_bases(kind, base, tmp_path):
    frozen = arm(kind, base)
    frozen = replace(frozen, recipe=frozen.recipe.model_copy(update={"frozen_last": 1}))
    make_arm(frozen, tmp_path / "made", 1, lambda done: None)
    before, after = weights(Path(base)), weights(tmp_path / "made")
    depth = 1 + max(int(name.split("layers.")[1].split(".")[0]) for name in before if "layers." in name)
    last = [name for name in after if f"layers.{depth - 1}." in name]
    moved = [name for name in after if "layers.0." in name]
    assert last and moved
    if kind == "adapters":
        assert all(after[name].abs().max() == 0 for name in last if "lora_B" in name)
        assert any(after[name].abs().max() > 0 for name in moved if "lora_B" in name)
    else:
        assert all(torch.equal(after[name], before[name]) for name in last)
        assert any(not torch.equal(after[name], before[name]) for name in moved)


def test_at_least_one_block_is_trained(base, tmp_path):
    frozen = arm("distilled", base)
    frozen = replace(frozen, recipe=frozen.recipe.model_copy(update={"frozen_last": 9}))
    with pytest.raises(InterpError, match=r"frozen_last = 9: the model has \d blocks; leave at least one"):
        make_arm(frozen, tmp_path / "made", 1, lambda done: None)
