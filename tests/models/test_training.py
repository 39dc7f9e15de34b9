"""What the two kinds of training compute, and where: each against a computation by hand on the trainer's own data."""

import copy
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig

from interp.config import DistillationConfig, ZeroRLConfig
from interp.errors import InterpError
from interp.models import shared_prompt
from interp.models.training import (
    Document,
    reading_order,
    reinforce,
    supervise,
    trainer_arguments,
    verified_rewards,
)
from interp.tasks.chains import ChainTask
from interp.traces import tokens
from interp.traces.tokens import encode, end_id
from tests.small import small_model

PROBLEMS = ChainTask(3).problems(24, 0, "train")
DOCUMENTS = [
    Document(p.prompt, f"{' '.join(p.prompt.split()[1:4])} = 2{' ; 1 + 1 = 2' * (i % 4)} #### {p.answer}")
    for i, p in enumerate(PROBLEMS)
]
BATCH, SEED = 8, 3


class Keep(TrainerCallback):
    """The arguments, and the gradient of the first update."""

    def on_train_begin(self, args, state, control, model=None, **_):
        self.args, self.model = args, model

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.gradient = torch.cat([w.grad.flatten().double() for w in model.parameters()])


def mean_loss(model, tokenizer, documents):
    """-log p of the completions' tokens and of the end after them, given all before, averaged over those tokens."""
    losses = []
    for document in documents:
        prompt = encode(tokenizer, document.prompt)
        completion = [*encode(tokenizer, document.completion), end_id(tokenizer)]
        log_p = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        losses += [-log_p[len(prompt) + i - 1, token] for i, token in enumerate(completion)]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("micro_batch", [2, 8])
def test_supervised_loss_and_gradient_are_of_the_completions_alone(micro_batch, tokenizer):
    model = small_model(0).requires_grad_(True)
    reference = copy.deepcopy(model).double()
    recipe, keep = DistillationConfig(steps=1, batch_size=BATCH, micro_batch=micro_batch), Keep()
    log = supervise(model, tokenizer, DOCUMENTS, recipe, SEED, callbacks=[keep])

    lengths = [len(encode(tokenizer, d.prompt)) + len(encode(tokenizer, d.completion)) + 1 for d in DOCUMENTS]
    of_update = [DOCUMENTS[i] for i in reading_order(lengths, 1, BATCH, SEED)]
    loss = mean_loss(reference, tokenizer, of_update)
    loss.backward()
    assert log.points == [(1, pytest.approx(float(loss), rel=1e-4))]
    expected = torch.cat([w.grad.flatten() for w in reference.parameters()])
    assert float(torch.cosine_similarity(keep.gradient, expected, dim=0)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("micro_batch", [2, 8])
def test_a_beginning_that_all_prompts_share_changes_neither_loss_nor_gradient(micro_batch, tokenizer, monkeypatch):
    examples = " ".join(f"{d.prompt} {d.completion}" for d in DOCUMENTS[:4])
    documents = [Document(f"{examples} {d.prompt}", d.completion) for d in DOCUMENTS]
    recipe, found, begun = DistillationConfig(steps=2, batch_size=BATCH, micro_batch=micro_batch), [], []
    by_hand = shared_prompt.completion_loss
    monkeypatch.setattr(shared_prompt, "completion_loss", lambda *given: begun.append(given[-1]) or by_hand(*given))
    for least in (32, 10_000):  # shared, and TRL's own
        monkeypatch.setattr(tokens, "SHARED", least)
        model, keep = small_model(0).requires_grad_(True), Keep()
        found.append((supervise(model, tokenizer, documents, recipe, SEED, callbacks=[keep]).points, keep.gradient))
    (shared, ours), (whole, theirs) = found
    assert [loss for _, loss in shared] == pytest.approx([loss for _, loss in whole], rel=1e-5)
    assert len(begun) == 2 * BATCH // micro_batch and min(begun) > len(encode(tokenizer, examples)) - 2
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@dataclass(frozen=True)
class Parity(ChainTask):
    """Right or wrong by a rule under which a completion's grade depends on the problem; grades are recorded."""

    graded: list = field(default_factory=list)

    def correct(self, problem, completion):
        self.graded.append((problem.prompt, completion))
        return (len(completion.split()) + int(problem.answer)) % 2 == 0


def test_every_completion_is_rewarded_for_its_own_problem():
    task = Parity(3)
    completions = ["1", "1 2", "1 2 3"] * 8
    indices = [(7 * i + 3) % 24 for i in range(24)]
    rewards = verified_rewards(task, PROBLEMS, completions, indices)
    assert rewards == [float(task.correct(PROBLEMS[i], c)) for i, c in zip(indices, completions, strict=True)]
    assert set(rewards) == {0.0, 1.0}
    with pytest.raises(ValueError, match="zip"):
        verified_rewards(task, PROBLEMS, completions, indices[:-1])


def test_grpo_pairs_every_completion_with_its_prompt_and_its_groups_mean(tokenizer, monkeypatch):
    """The advantage of a completion, as it enters the loss, is its own reward minus the mean of its prompt's group."""
    batches, compute = [], GRPOTrainer.compute_loss

    def recorded(self, model, inputs, *args, **options):
        texts = {
            part: tokenizer.batch_decode(inputs[f"{part}_ids"], skip_special_tokens=True)
            for part in ("prompt", "completion")
        }
        batches.append(list(zip(texts["prompt"], texts["completion"], inputs["advantages"].tolist(), strict=True)))
        return compute(self, model, inputs, *args, **options)

    monkeypatch.setattr(GRPOTrainer, "compute_loss", recorded)
    recipe = ZeroRLConfig(steps=2, completions=16, group_size=4, max_new_tokens=6, micro_batch=8)
    task, by_hand = Parity(3), Parity(3)
    log = reinforce(small_model(0).requires_grad_(True), tokenizer, PROBLEMS, task, recipe, SEED)

    updates = [batches[0] + batches[1], batches[2] + batches[3]]
    assert sorted((p, c) for update in updates for p, c, _ in update) == sorted(task.graded)
    problems = {problem.prompt: problem for problem in PROBLEMS}
    for (_, mean_reward), update in zip(log.points, updates, strict=True):
        rewards = [float(by_hand.correct(problems[prompt], completion)) for prompt, completion, _ in update]
        assert mean_reward == pytest.approx(sum(rewards) / len(rewards))
        for i, (prompt, _, advantage) in enumerate(update):
            group = [rewards[j] for j, (other, _, _) in enumerate(update) if other == prompt]
            assert len(group) == recipe.group_size
            assert advantage == pytest.approx(rewards[i] - sum(group) / len(group), abs=1e-6)
    assert len({advantage for update in updates for *_, advantage in update}) > 2


def test_training_is_on_the_models_device(tokenizer):
    """Transformers takes a GPU where there is one, unless it is told that the processor is to be used."""
    for train, data in ((supervise, [DOCUMENTS]), (reinforce, [PROBLEMS, ChainTask(3)])):
        kind = DistillationConfig(steps=1, batch_size=4) if train is supervise else ZeroRLConfig(
            steps=1, completions=4, group_size=4, max_new_tokens=2
        )  # fmt: skip
        model, keep = small_model(0).requires_grad_(True), Keep()
        train(model, tokenizer, *data, kind, 0, callbacks=[keep])
        assert keep.args.use_cpu and keep.args.n_gpu == 0
        assert {weight.device.type for weight in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("kind", [SFTConfig, GRPOConfig])
def test_several_gpus_do_not_multiply_the_batch(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    plain = kind(output_dir=str(tmp_path), use_cpu=False, bf16=False, per_device_train_batch_size=8)
    assert plain.n_gpu == 4 and plain.train_batch_size == 32, "as transformers would have it"
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    ours = trainer_arguments(kind, on_gpu, 0, None, output_dir=str(tmp_path), per_device_train_batch_size=8)
    assert not ours.use_cpu and ours.n_gpu == 1 and ours.train_batch_size == 8


def test_several_processes_are_refused(tokenizer, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = small_model(0).requires_grad_(True)
    with pytest.raises(InterpError, match=r"WORLD_SIZE is 2 .*; start the command without torchrun"):
        supervise(model, tokenizer, DOCUMENTS, DistillationConfig(steps=1, batch_size=4), 0)
    with pytest.raises(InterpError, match=r"WORLD_SIZE is 2 .*; start the command without torchrun"):
        recipe = ZeroRLConfig(steps=1, completions=4, group_size=4, max_new_tokens=2)
        reinforce(model, tokenizer, PROBLEMS, ChainTask(3), recipe, 0)
