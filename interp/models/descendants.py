"""Checkpoints trained from a base: each is one folder, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from interp.config import DistillationConfig, FineTuningConfig, PretrainingConfig, ZeroRLConfig
from interp.errors import InterpError
from interp.folders import atomic_folder
from interp.generation.sampling import CachedModel, generate
from interp.locks import locked
from interp.models.jobs import Job, Tick
from interp.models.resume import Resume
from interp.models.sites import decoder_blocks
from interp.models.source import ADAPTER
from interp.models.training import Document, TrainingLog, reinforce, supervise, with_adapters
from interp.models.trio import pick_device, read_tokenizer
from interp.models.weights import read_weights
from interp.progress import console
from interp.tasks.base import Problem, Task
from interp.tasks.grading import grade

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

LOG = "training.json"
SAMPLED = 64
"""Problems that a base answers before it is reinforced, to see whether it can learn from them."""


class _FromBase:
    """Shared by recipes that start from a base checkpoint."""

    base: str
    recipe: DistillationConfig | ZeroRLConfig
    seed: int

    @property
    def save_every(self) -> int:
        return self.recipe.save_every

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return _open(self.base, self.recipe, self.seed)


@dataclass(frozen=True)
class Distilled(_FromBase):
    """A base fine-tuned on traces."""

    base: str
    documents: Sequence[Document]
    recipe: DistillationConfig
    seed: int

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        return supervise(model, tokenizer, self.documents, self.recipe, self.seed, callbacks=callbacks, resume=resume)


@dataclass(frozen=True)
class Reinforced(_FromBase):
    """A base trained by reinforcement (GRPO) on verified answers."""

    base: str
    problems: Sequence[Problem]
    task: Task
    recipe: ZeroRLConfig
    seed: int

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        warn_without_signal(model, tokenizer, self.problems, self.task, self.recipe.max_new_tokens)
        return reinforce(
            model, tokenizer, self.problems, self.task, self.recipe, self.seed, callbacks=callbacks, resume=resume
        )


FineTuned = Distilled | Reinforced


class Trainable(Protocol):
    """Recipe of one checkpoint: the model it starts from, and its training."""

    @property
    def recipe(self) -> PretrainingConfig | DistillationConfig | ZeroRLConfig:
        """Settings of the training; `steps` is the number of updates."""
        ...

    @property
    def save_every(self) -> int:
        """Updates between two saved training states; 0 saves none."""
        ...

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model before the first update, and its tokenizer."""
        ...

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        """Train `model` in place."""
        ...


@dataclass(frozen=True)
class _Make:
    arm: Trainable
    out: Path
    threads: int
    device: str

    def __call__(self, tick: Tick) -> None:
        make_arm(self.arm, self.out, self.threads, tick, self.device)


def job(
    name: str, arm: Trainable, out: Path, threads: int = 1, needs: tuple[Path, ...] = (), device: str = "auto"
) -> Job:
    """A checkpoint's training, for `run_jobs`."""
    return Job(name, arm.recipe.steps, _Make(arm, out, threads, device), needs)


def make_arm(arm: Trainable, out: Path, threads: int, tick: Tick, device: str = "auto") -> None:
    """Train one checkpoint and save its model (or its adapters), tokenizer and `training.json` in `out`. The weights
    are the same, to the bit, for the same number of CPU threads; `device` is `auto`, `cpu` or `cuda`.

    Raises:
        InterpError: another process is training this checkpoint.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    with locked(out):
        with _reproducible(threads):
            model, tokenizer = arm.start()
            model.to(pick_device(device))  # type: ignore[arg-type]
            resume = Resume(_state(out), arm.save_every) if arm.save_every else None
            log = arm.train(model, tokenizer, [_ticker(tick)], resume)
        with atomic_folder(out) as folder:
            model.save_pretrained(folder)
            if (folder / ADAPTER).exists():  # adapters are read with their base's tokenizer, and peft's card is empty
                (folder / "README.md").unlink(missing_ok=True)
            else:
                tokenizer.save_pretrained(folder)
            (folder / LOG).write_text(json.dumps({"metric": log.name, "points": log.points, "left_out": log.left_out}))
        discard_state(out)


def discard_state(out: Path) -> None:
    """Remove the training state of a finished checkpoint, which a run that is killed right after publishing the
    checkpoint leaves beside it."""
    shutil.rmtree(_state(out), ignore_errors=True)


def _state(out: Path) -> Path:
    return out.with_name(f".{out.name}.trainer")


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Deterministic algorithms on `threads` CPU threads; the process's own settings are restored on exit."""
    import torch

    deterministic: Any = torch.utils.deterministic
    threads_before, filled_before = torch.get_num_threads(), deterministic.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled()
    warned_before = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling guards against reads of uninitialised memory: steps take 2.5 times as long here, to the same bits.
        deterministic.fill_uninitialized_memory = False
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(before, warn_only=warned_before)
        deterministic.fill_uninitialized_memory = filled_before


def read_log(folder: Path) -> TrainingLog:
    """The training curve of a checkpoint that `make_arm` wrote.

    Raises:
        InterpError: its `training.json` is damaged, or another program's.
    """
    try:
        log = json.loads((folder / LOG).read_text())
        points = [(int(step), float(value)) for step, value in log["points"]]
        return TrainingLog(str(log["metric"]), points, int(log["left_out"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InterpError(f"{folder / LOG}: not a training log of this project; remove or rename the file") from error


def training_table(paths: Mapping[str, str]) -> pl.DataFrame:
    """The training curves of all models that this project trained: (model, step, metric, value).

    Raises:
        InterpError: a folder's `training.json` is damaged, or another program's.
    """
    logs = {name: read_log(Path(path)) for name, path in paths.items() if trained_here(path)}
    schema = {"model": pl.String, "step": pl.Int64, "metric": pl.String, "value": pl.Float64}
    rows = [(name, step, log.name, value) for name, log in logs.items() for step, value in log.points]
    return pl.DataFrame(rows, schema=schema, orient="row")


def trained_here(path: str) -> bool:
    """Whether a checkpoint's folder has a training log."""
    return (Path(path).expanduser() / LOG).exists()


def warn_without_signal(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    task: Task,
    max_new_tokens: int,
) -> None:
    """Warn before reinforcement if the base solves none of a sample of problems, or all of them: the rewards of a
    group are then equal, and there is no gradient. The answers are sampled on the model's device."""
    sample = problems[:SAMPLED]
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # its layers hold the adapters
    done = generate(CachedModel(plain), tokenizer, [p.prompt for p in sample], max_new_tokens=max_new_tokens)
    right = sum(grade(task, p, r.text).correct for p, r in zip(sample, done, strict=True))
    if right in (0, len(sample)):
        share = "none" if right == 0 else "all"
        fix = "easier problems, examples in the prompt, or more max_new_tokens" if right == 0 else "harder problems"
        solved = f"{share} of {len(sample)} problems"
        console.print(f"  zero-RL: the base solves {solved}: nothing can be learned; try {fix}")


def _open(base: str, recipe: FineTuningConfig, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch

    model = read_weights("base", base, getattr(torch, recipe.frozen_dtype) if recipe.lora_rank else torch.float32)
    model.name_or_path = base  # what peft names as the adapters' base
    if recipe.lora_rank:
        model = with_adapters(model, recipe.lora_rank, seed)
    freeze_last(model, recipe.frozen_last)
    return model, read_tokenizer("base", base)


def freeze_last(model: PreTrainedModel, n: int) -> None:
    """Leave the last `n` blocks out of the training.

    Raises:
        InterpError: the model has no more blocks than these.
    """
    whole: Any = model
    plain = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    blocks = decoder_blocks(plain)
    if n >= len(blocks):
        raise InterpError(f"frozen_last = {n}: the model has {len(blocks)} blocks; leave at least one to be trained")
    for block in blocks[len(blocks) - n :]:
        block.requires_grad_(False)


def _ticker(tick: Callable[[int], None]) -> TrainerCallback:
    from transformers import TrainerCallback

    class Ticker(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tick(state.global_step)

    return Ticker()
