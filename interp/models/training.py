"""Fine-tuning on TRL: supervised (pre-training and distillation) and reinforced (zero-RL)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from interp.traces.tokens import end_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from interp.tasks.base import Problem, Task


@dataclass(frozen=True)
class Document:
    """A text to train on; the loss counts the tokens of `completion` only."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class TrainingLog:
    """What a trainer logged: (step, value) pairs."""

    name: str
    """`loss` or `reward`."""
    points: list[tuple[int, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


def supervise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    muon_lr: float | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingLog:
    """Train `model` in place on documents (reshuffled every epoch) with warm-up, a plateau, and decay over the last
    third. With `muon_lr` the hidden matrices are trained by Muon at that rate, and `lr` is for the rest."""
    import torch
    from datasets import Dataset
    from transformers import get_wsd_schedule
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from interp.models.optimizer import MuonAdamW

    rows = _tokenise(tokenizer, documents)
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            max_length=None,
            **_common(seed, logging_steps=max(1, steps // 50)),
        )
        if muon_lr is not None:
            optimizer: torch.optim.Optimizer = MuonAdamW(model, muon_lr, lr)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
        schedule = get_wsd_schedule(
            optimizer,
            num_warmup_steps=max(1, steps // 20),
            num_decay_steps=steps // 3,
            num_training_steps=steps,
        )
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            optimizers=(optimizer, schedule),
        )
        _quiet(trainer)
        trainer.train()
    return TrainingLog("loss", _history(trainer, "loss"))


def reinforce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    task: Task,
    *,
    steps: int,
    completions: int,
    group_size: int,
    lr: float,
    max_new_tokens: int,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingLog:
    """GRPO in place, the reward being 1 for a verified answer with the exact ending and 0 otherwise.

    The loss is Dr. GRPO's (Liu et al. 2025), which has no length bias; no reference model (beta = 0).
    """
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    rows = [{"prompt": p.prompt, "problem": i} for i, p in enumerate(problems)]

    def verified(*, completions: list[str], problem: list[int], **_: Any) -> list[float | None]:
        return [float(task.correct(problems[i], text)) for i, text in zip(problem, completions, strict=True)]

    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=completions,
            num_generations=group_size,
            max_completion_length=max_new_tokens,
            learning_rate=lr,
            lr_scheduler_type="constant_with_warmup",
            adam_beta2=0.98,
            warmup_steps=max(1, steps // 10),
            temperature=1.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            beta=0.0,
            **_common(seed, logging_steps=1),
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=cast(Any, verified),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        _quiet(trainer)
        trainer.train()
    return TrainingLog("reward", _history(trainer, "reward"))


def _tokenise(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[dict[str, list[int]]]:
    def ids(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    prompts, completions = ids([d.prompt for d in documents]), ids([d.completion for d in documents])
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        completion = [*completion, end_id(tokenizer)]
        rows.append({"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    return rows


def _common(seed: int, logging_steps: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "data_seed": seed,
        "max_grad_norm": 1.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": logging_steps,
        "dataloader_pin_memory": False,
    }


def _quiet(trainer: Any) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _history(trainer: Any, key: str) -> list[tuple[int, float]]:
    return [(row["step"], float(row[key])) for row in trainer.state.log_history if key in row]
