"""Training with TRL: supervised (pre-training and distillation) and by verified reward (zero-RL)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from interp.config import DistillationConfig, PretrainingConfig, ZeroRLConfig
from interp.errors import InterpError
from interp.models.resume import Resume, newest_checkpoint
from interp.progress import console
from interp.tasks.grading import grade
from interp.traces.tokens import end_id, shared_beginning

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

    from interp.tasks.base import Problem, Task

Arguments = TypeVar("Arguments", bound="TrainingArguments")


@dataclass(frozen=True)
class Document:
    """A text to train on; the loss counts the tokens of `completion` only."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class TrainingLog:
    """A training curve, as (number of updates done, value) pairs."""

    name: str
    """`loss` or `reward`."""
    points: list[tuple[int, float]]
    left_out: int = 0
    """Number of documents that were longer than the model's context."""

    @property
    def last(self) -> float:
        return self.points[-1][1]


def supervise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    recipe: PretrainingConfig | DistillationConfig,
    seed: int,
    *,
    muon_lr: float | None = None,
    beside: int = 1,
    callbacks: Sequence[TrainerCallback] = (),
    resume: Resume | None = None,
) -> TrainingLog:
    """Train `model` in place, on the device it is on, on documents that are reshuffled every epoch; the learning rate
    warms up, stays, and decays over the last third. With `muon_lr`, Muon trains the hidden matrices at that rate and
    `recipe.lr` is AdamW's for the other weights.

    The loss is the mean over all completion tokens of an update, accumulated over micro-batches of documents of
    similar length. Documents longer than the model's context are left out, never cut, and counted in the log. What all
    prompts begin with, if it is long (worked examples), is computed once a micro-batch. On the CPU at most `beside`
    micro-batches are differentiated at the same time (`side_by_side`), to the same bits.

    Raises:
        InterpError: every document is longer than the context, or this is one of several processes (torchrun).
    """
    import torch
    from datasets import Dataset
    from transformers import get_wsd_schedule
    from trl.trainer.sft_config import SFTConfig

    from interp.models.optimizer import MuonAdamW
    from interp.models.shared_prompt import trainer_with
    from interp.models.side_by_side import side_by_side

    rows, left_out = _fitting(_tokenise(tokenizer, documents), model)
    order = reading_order([len(row["input_ids"]) for row in rows], recipe.steps, recipe.batch_size, seed)
    at_once = recipe.micro_batch or recipe.batch_size // (1 if recipe.batch_size % 4 else 4)
    n_micro = recipe.batch_size // at_once
    together = max(n for n in range(1, min(beside, n_micro) + 1) if n_micro % n == 0)
    with _output(resume) as output:
        config = trainer_arguments(
            SFTConfig,
            model,
            seed,
            resume,
            output_dir=output,
            max_steps=recipe.steps,
            per_device_train_batch_size=together * at_once,
            gradient_accumulation_steps=n_micro // together,
            train_sampling_strategy="sequential",
            max_length=None,
            logging_steps=max(1, recipe.steps // 50),
        )
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        if muon_lr is not None:
            optimizer: torch.optim.Optimizer = MuonAdamW(model, muon_lr, recipe.lr)
        else:
            optimizer = torch.optim.AdamW(trained, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)
        schedule = get_wsd_schedule(
            optimizer,
            num_warmup_steps=max(1, recipe.steps // 20),
            num_decay_steps=recipe.steps // 3,
            num_training_steps=recipe.steps,
        )
        prompts = [row["input_ids"][: row["labels"].count(-100)] for row in rows]
        kind = trainer_with(shared_beginning(prompts))
        trainer = (side_by_side(kind, at_once) if together > 1 else kind)(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows).select(order),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            optimizers=(optimizer, schedule),
        )
        _train(trainer, resume)
    return TrainingLog("loss", _history(trainer, "loss"), left_out)


def reinforce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    task: Task,
    recipe: ZeroRLConfig,
    seed: int,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    resume: Resume | None = None,
) -> TrainingLog:
    """Train `model` in place, on the device it is on, by GRPO; a completion's reward is 1 if its answer is verified
    and 0 otherwise.

    The loss is Dr. GRPO's (Liu et al. 2025), which has no length bias; no reference model (beta = 0). The first step
    at which every group's rewards are equal, so that there is no gradient, is reported on the console.

    Raises:
        InterpError: this is one of several processes (torchrun).
    """
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    rows = [{"prompt": p.prompt, "problem": i} for i, p in enumerate(problems)]
    at_once = recipe.micro_batch or recipe.completions

    def verified(*, completions: list[str], problem: list[int], **_: Any) -> list[float]:
        return verified_rewards(task, problems, completions, problem)

    with _output(resume) as output:
        config = trainer_arguments(
            GRPOConfig,
            model,
            seed,
            resume,
            output_dir=output,
            max_steps=recipe.steps,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=recipe.completions // at_once,
            num_generations=recipe.group_size,
            max_completion_length=recipe.max_new_tokens,
            learning_rate=recipe.lr,
            lr_scheduler_type="constant_with_warmup",
            adam_beta2=0.98,
            warmup_steps=max(1, recipe.steps // 10),
            temperature=1.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            beta=0.0,
            use_vllm=recipe.vllm,
            logging_steps=1,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=cast(Any, verified),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[*callbacks, _report_constant_reward()],
        )
        _train(trainer, resume)
    return TrainingLog("reward", _history(trainer, "reward"))


def verified_rewards(
    task: Task, problems: Sequence[Problem], completions: Sequence[str], indices: Sequence[int]
) -> list[float]:
    """1 for every completion whose answer is verified, 0 for the others; completion i answers
    `problems[indices[i]]`."""
    return [float(grade(task, problems[i], text).correct) for i, text in zip(indices, completions, strict=True)]


def reading_order(lengths: Sequence[int], updates: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the documents in the order in which they are read, [updates * batch_size]: every epoch is a new
    permutation, and the documents of one update are sorted by length, so that micro-batches need little padding."""
    import torch

    generator, order = torch.Generator().manual_seed(seed), []
    while len(order) < updates * batch_size:
        order += torch.randperm(len(lengths), generator=generator).tolist()
    batches = (order[i * batch_size : (i + 1) * batch_size] for i in range(updates))
    return [i for batch in batches for i in sorted(batch, key=lengths.__getitem__)]


def with_adapters(model: PreTrainedModel, rank: int, seed: int) -> Any:
    """The model with LoRA adapters on every linear layer (Hu et al. 2021), alpha twice the rank; they alone are
    trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)  # of the random lora_A
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def _fitting(rows: list[dict[str, list[int]]], model: PreTrainedModel) -> tuple[list[dict[str, list[int]]], int]:
    """The rows that are not longer than the model's context, and the number of the others."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    kept = [row for row in rows if context is None or len(row["input_ids"]) <= context]
    if not kept:
        raise InterpError(f"training: all {len(rows)} documents are longer than the model's context of {context}")
    if len(kept) < len(rows):
        console.print(f"  {len(rows) - len(kept)} of {len(rows)} documents are longer than {context} tokens: left out")
    return kept, len(rows) - len(kept)


@contextmanager
def _output(resume: Resume | None) -> Iterator[str]:
    """The trainer's output folder: the one to resume from, or a temporary one."""
    if resume is not None:
        resume.folder.mkdir(parents=True, exist_ok=True)
        yield str(resume.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield scratch


def _train(trainer: Any, resume: Resume | None) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    checkpoint = None if resume is None else newest_checkpoint(resume.folder)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def _report_constant_reward() -> TrainerCallback:
    from transformers import TrainerCallback

    class ReportOnce(TrainerCallback):
        reported = False

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not self.reported and logs and logs.get("frac_reward_zero_std") == 1.0:
                self.reported = True
                console.print(
                    f"  step {state.global_step}: every completion of a problem has the same reward "
                    f"(mean {logs['reward']:.2f}), so nothing is learned from this step"
                )

    return ReportOnce()


def _tokenise(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[dict[str, list[int]]]:
    def ids(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    prompts, completions = ids([d.prompt for d in documents]), ids([d.completion for d in documents])
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        completion = [*completion, end_id(tokenizer)]
        rows.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    return rows


def trainer_arguments(
    kind: type[Arguments], model: PreTrainedModel, seed: int, resume: Resume | None, **own: Any
) -> Arguments:
    """A trainer's arguments: `own`, and those that both kinds of training share. One process, on the model's device.

    Raises:
        InterpError: this is one of several processes (torchrun).
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise InterpError(
            f"training: WORLD_SIZE is {os.environ['WORLD_SIZE']} and training runs in one process only; "
            "start the command without torchrun"
        )
    saving: dict[str, Any] = {"save_strategy": "no"}
    if resume is not None:
        saving = {"save_strategy": "steps", "save_steps": resume.every, "save_total_limit": 1}
    arguments = kind(
        **own,
        **saving,
        seed=seed,
        data_seed=seed,
        use_cpu=model.device.type == "cpu",
        max_grad_norm=1.0,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    # With several GPUs, transformers would wrap the model in nn.DataParallel and so multiply the recipe's batch.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _history(trainer: Any, key: str) -> list[tuple[int, float]]:
    return [(row["step"], float(row[key])) for row in trainer.state.log_history if key in row]
