"""Making a checkpoint from a base: each is one folder, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from interp.config import DistillationConfig, FineTuningConfig, PretrainingConfig, ZeroRLConfig
from interp.folders import atomic_folder
from interp.generation.sampling import CachedModel, generate
from interp.models.jobs import Job, Tick
from interp.models.source import ADAPTER, locate
from interp.models.training import Document, Resume, TrainingLog, reinforce, supervise, with_adapters
from interp.models.trio import read_tokenizer
from interp.progress import console
from interp.tasks.base import Problem, Task
from interp.tasks.grading import grade

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

LOG = "training.json"
SAMPLED = 64
"""Problems on which a base is tried before it is reinforced."""


@dataclass(frozen=True)
class Distilled:
    """A base fine-tuned on traces."""

    base: str
    documents: Sequence[Document]
    recipe: DistillationConfig
    seed: int

    @property
    def save_every(self) -> int:
        return self.recipe.save_every

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return _open(self.base, self.recipe, self.seed)

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        return supervise(model, tokenizer, self.documents, self.recipe, self.seed, callbacks=callbacks, resume=resume)


@dataclass(frozen=True)
class Reinforced:
    """A base reinforced on verified answers."""

    base: str
    problems: Sequence[Problem]
    task: Task
    recipe: ZeroRLConfig
    seed: int

    @property
    def save_every(self) -> int:
        return self.recipe.save_every

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return _open(self.base, self.recipe, self.seed)

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        say_hopeless(model, tokenizer, self.problems, self.task, self.recipe.max_new_tokens)
        return reinforce(
            model, tokenizer, self.problems, self.task, self.recipe, self.seed, callbacks=callbacks, resume=resume
        )


FineTuned = Distilled | Reinforced


class Trainable(Protocol):
    """How one checkpoint is made: where it starts, and how it is trained from there."""

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

    def __call__(self, tick: Tick) -> None:
        make_arm(self.arm, self.out, self.threads, tick)


def job(name: str, arm: Trainable, out: Path, threads: int = 1, needs: tuple[Path, ...] = ()) -> Job:
    """The making of an arm, for `run_jobs`."""
    return Job(name, arm.recipe.steps, _Make(arm, out, threads), needs)


def make_arm(arm: Trainable, out: Path, threads: int, tick: Tick) -> None:
    """Train one arm and save model (or its adapters), tokenizer and `training.json`. The weights are the same, to the
    bit, for the same number of threads."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Guards against reading uninitialised memory at 2.5 times the cost of a step here; the updates are the same bits.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    model, tokenizer = arm.start()
    resume = Resume(out.with_name(f".{out.name}.trainer"), arm.save_every) if arm.save_every else None
    log = arm.train(model, tokenizer, [_ticker(tick)], resume)
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
        if (folder / ADAPTER).exists():  # adapters read with their base's tokenizer, and peft's card says nothing
            (folder / "README.md").unlink(missing_ok=True)
        else:
            tokenizer.save_pretrained(folder)
        (folder / LOG).write_text(json.dumps({"metric": log.name, "points": log.points, "left_out": log.left_out}))
    if resume is not None:
        shutil.rmtree(resume.folder)


def read_log(folder: Path) -> TrainingLog:
    """What an arm's trainer logged."""
    log = json.loads((folder / LOG).read_text())
    return TrainingLog(log["metric"], [(step, value) for step, value in log["points"]], log["left_out"])


def training_table(paths: Mapping[str, str]) -> pl.DataFrame:
    """The training curves of all models that this project trained: (model, step, metric, value)."""
    logs = {name: read_log(Path(path)) for name, path in paths.items() if (Path(path) / LOG).exists()}
    schema = {"model": pl.String, "step": pl.Int64, "metric": pl.String, "value": pl.Float64}
    rows = [(name, step, log.name, value) for name, log in logs.items() for step, value in log.points]
    return pl.DataFrame(rows, schema=schema, orient="row")


def say_hopeless(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    task: Task,
    max_new_tokens: int,
) -> None:
    """Say before reinforcing a base that it solves none of a sample of problems, or all: then no group of its
    completions holds both a right and a wrong one, and there is nothing to learn from."""
    some = problems[:SAMPLED]
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters lie in it as well
    done = generate(CachedModel(plain), tokenizer, [p.prompt for p in some], max_new_tokens=max_new_tokens)
    right = sum(grade(task, p, r.text).correct for p, r in zip(some, done, strict=True))
    if right in (0, len(some)):
        what = "none" if right == 0 else "all"
        mend = "easier problems, examples in the prompt, or more max_new_tokens" if right == 0 else "harder problems"
        console.print(f"  zero-RL: the base solves {what} of {len(some)} problems: nothing can be learned; try {mend}")


def _open(base: str, recipe: FineTuningConfig, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, recipe.frozen_dtype) if recipe.lora_rank else torch.float32
    model = AutoModelForCausalLM.from_pretrained(locate("base", base).model, dtype=dtype)
    model.name_or_path = base  # what adapters are saved as belonging to: the name given, not where it lies
    if recipe.lora_rank:
        model = with_adapters(model, recipe.lora_rank, seed)
    return model, read_tokenizer("base", base)


def _ticker(tick: Callable[[int], None]) -> TrainerCallback:
    from transformers import TrainerCallback

    class Ticker(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tick(state.global_step)

    return Ticker()
