"""Stage `checkpoints`: the organism's four models, trained on the spot, or the user's own, checked."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from interp.config import MODELS, StudyConfig
from interp.folders import atomic_folder
from interp.models.organism import make_model, make_tokenizer
from interp.models.training import Document, TrainingLog, reinforce, supervise
from interp.models.trio import load_model, open_trio, pick_device
from interp.progress import bars
from interp.study import Study
from interp.tasks.chains import ChainTask
from interp.traces.organism import KINDS, pretraining_document

Report = Callable[[str, int], None]
"""Hears an arm's name and how many of its updates are done."""


def run(study: Study, out: Path) -> int:
    """Write `models.json` and, for an organism, the models and `training.parquet`; returns the number of models."""
    config = study.config
    paths = config.checkpoints.given or _make_organism(config, out)
    trio = open_trio(paths)
    device = pick_device(config.device)
    models = {name: load_model(name, path, device) for name, path in paths.items()}
    described = {
        name: {
            "path": _portable(paths[name], out),
            "parameters": sum(p.numel() for p in model.parameters()),
            "distance_from_base": None if name == "base" else _distance(models["base"], model),
        }
        for name, model in models.items()
    }
    (out / "models.json").write_text(json.dumps(described, indent=1))
    (out / "tokens.json").write_text(json.dumps({"masked_ids": trio.masked_ids}))
    return len(models)


def _portable(path: str, out: Path) -> str:
    """A path inside this stage's folder is kept relative to it, so that the study can be moved."""
    here = Path(path)
    return str(here.relative_to(out)) if here.is_relative_to(out) else path


def _distance(base: Any, other: Any) -> float:
    """Relative distance of the weights, ‖θ - θ_base‖ / ‖θ_base‖: how far the fine-tuning moved them."""
    ours, theirs = base.state_dict(), other.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    moved = sum(float((ours[n].double() - theirs[n].double()).square().sum()) for n in shared)
    return (moved / sum(float(ours[n].double().square().sum()) for n in shared)) ** 0.5


def _make_organism(config: StudyConfig, out: Path) -> dict[str, str]:
    """Train what is not there yet: the base, then its three descendants side by side, one thread each."""
    paths = {name: out / name for name in MODELS}
    recipe = config.organism
    steps = {
        "base": recipe.pretraining.steps,
        "distilled": recipe.distillation.steps,
        "zero_rl": recipe.zero_rl.steps,
        "control": recipe.distillation.steps,
    }
    missing = [name for name in MODELS if not paths[name].exists()]
    with bars() as progress:
        tasks = {name: progress.add_task(f"training {name}", total=steps[name], note="") for name in missing}

        def report(name: str, done: int) -> None:
            progress.update(tasks[name], completed=done)

        if "base" in missing:
            _train_arm("base", config, out, config.threads, report)
        _train_side_by_side([name for name in missing if name != "base"], config, out, report)
    _collect_logs(out)
    return {name: str(path) for name, path in paths.items()}


def _train_side_by_side(names: list[str], config: StudyConfig, out: Path, report: Report) -> None:
    context = multiprocessing.get_context("spawn")
    workers = 1 if pick_device(config.device).type == "cuda" else min(config.threads, max(1, len(names)))
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        queue = manager.Queue()
        # The longest first, so that the last one running is short.
        order = sorted(names, key=("distilled", "control", "zero_rl").index)
        waiting = {pool.submit(_train_arm, name, config, out, 1, queue) for name in order}
        while waiting:
            with contextlib.suppress(Empty):
                report(*queue.get(timeout=0.5))
            for future in [f for f in waiting if f.done()]:
                waiting.remove(future)
                future.result()


def _train_arm(name: str, config: StudyConfig, out: Path, threads: int, report: Any) -> None:
    """Train one arm and save it; `report` is a function or a queue."""
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback

    class Tick(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            report(name, state.global_step) if callable(report) else report.put((name, state.global_step))

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Guards against reading uninitialised memory at 2.5 times the cost of a step here; the updates are the same bits.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    tokenizer = make_tokenizer()
    recipe = config.organism
    if name == "base":
        model = make_model(recipe.d_model, recipe.n_layers, recipe.n_heads, config.seed)
    else:
        model = AutoModelForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    log = TRAINERS[name](model, tokenizer, config, [Tick()])
    with atomic_folder(out / name) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"metric": log.name, "points": log.points}))


def _train_base(model: Any, tokenizer: Any, config: StudyConfig, callbacks: list[Any]) -> TrainingLog:
    recipe, rng = config.organism.pretraining, random.Random(f"base-{config.seed}")
    problems = ChainTask(config.task.terms).problems(recipe.steps * recipe.batch_size, config.seed, "train")
    documents = [Document(*pretraining_document(p.prompt, rng, recipe.judge_share)) for p in problems]
    return supervise(
        model,
        tokenizer,
        documents,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        muon_lr=recipe.muon_lr,
        seed=config.seed,
        callbacks=callbacks,
    )


def _train_on(kind: str) -> Callable[..., TrainingLog]:
    def fit(model: Any, tokenizer: Any, config: StudyConfig, callbacks: list[Any]) -> TrainingLog:
        recipe, rng = config.organism.distillation, random.Random(f"{kind}-{config.seed}")
        problems = ChainTask(config.task.terms).problems(recipe.traces, config.seed + 1, "train")
        write = KINDS[config.organism.kind if kind == "distilled" else kind]
        return supervise(
            model,
            tokenizer,
            [Document(p.prompt, write(p.prompt, rng)) for p in problems],
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
            seed=config.seed,
            callbacks=callbacks,
        )

    return fit


def _train_zero_rl(model: Any, tokenizer: Any, config: StudyConfig, callbacks: list[Any]) -> TrainingLog:
    recipe, task = config.organism.zero_rl, ChainTask(config.task.terms)
    return reinforce(
        model,
        tokenizer,
        task.problems(recipe.steps * recipe.completions // recipe.group_size, config.seed + 2, "train"),
        task,
        steps=recipe.steps,
        completions=recipe.completions,
        group_size=recipe.group_size,
        lr=recipe.lr,
        max_new_tokens=recipe.max_new_tokens,
        seed=config.seed,
        callbacks=callbacks,
    )


TRAINERS: dict[str, Callable[..., TrainingLog]] = {
    "base": _train_base,
    "distilled": _train_on("distilled"),
    "zero_rl": _train_zero_rl,
    "control": _train_on("plain"),
}


def _collect_logs(out: Path) -> None:
    """One table of all arms' training curves."""
    import polars as pl

    logs = {name: json.loads((out / name / "training.json").read_text()) for name in MODELS}
    pl.DataFrame(
        [
            {"model": name, "step": step, "metric": log["metric"], "value": value}
            for name, log in logs.items()
            for step, value in log["points"]
        ]
    ).write_parquet(out / "training.parquet")
