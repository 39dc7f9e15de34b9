"""Training crosscoders: one, or several in one pass over the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.crosscoder.budget import refuse_too_large
from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.feeds import Feed, Rows, open_feed
from interp.crosscoder.metrics import Evaluation, calibrate, evaluate_chunks
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.rows import chunk_rows
from interp.crosscoder.trainer import Metrics, Trainer
from interp.errors import InterpError

OnStep = Callable[[int, Sequence[Metrics]], None]
FILE = "training.safetensors"
SHARED = ("steps", "batch_size", "outlier_ratio", "shuffle_rows", "log_every")


@dataclass(frozen=True)
class Trained:
    """A crosscoder and how its training went."""

    crosscoder: Crosscoder
    log: list[Metrics]
    """A row of metrics every log_every steps and at the last; see `Trainer.update`."""
    held_out: Evaluation
    """Measured on rows that were never trained on (the gate was calibrated on them)."""
    n_bad: int
    """Rows dropped because they held NaN or infinity."""
    n_outlying: int
    """Rows left out for their norm."""


def train(
    rows: Rows,
    config: CrosscoderConfig,
    train_config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, Metrics], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> Crosscoder:
    """Train on `rows`, one residual per model in each, and calibrate the gate on rows held out.

    See `train_many`, which also returns the log and the measurements.
    """

    def first(step: int, metrics: Sequence[Metrics]) -> None:
        if on_step is not None:
            on_step(step, metrics[0])

    return train_many(
        rows,
        [(config, train_config)],
        device=device,
        on_step=first,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )[0].crosscoder


def train_many(
    rows: Rows,
    configs: Sequence[tuple[CrosscoderConfig, TrainConfig]],
    *,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> list[Trained]:
    """Train several crosscoders on the same batches; each is the same, to the bit, as if trained alone.

    `rows` is a tensor [N, models, d_model] of any float type, a store, or an iterable of such tensors that pass by.
    5 % of them (at least 2,048, at most a fifth; of an iterable's first `shuffle_rows`) are never trained on; mean and
    scale come from the others. The loss is `squared_error` + aux_coefficient * `aux_k` + sparsity * penalty, on
    normalised rows. The same seed gives the same weights, to the bit, on the same machine with the same number of
    threads; so does a run that is killed and called again with the same `checkpoint` folder, where its state is kept
    every `checkpoint_every` steps.

    `on_step` hears (step, one row of metrics a crosscoder) every log_every steps and at the last.

    Raises:
        InterpError: rows of another shape or type, too few or too many non-finite rows, a model that never varies,
            more memory than there is, divergence, a checkpoint of another run, or configs that cannot share batches.
    """
    _refuse_unequal(configs)
    refuse_too_large(configs, device)
    feed = open_feed(rows, *configs[0])
    trainers = [Trainer(*pair, feed.normaliser, device) for pair in configs]
    identity = {
        "data": feed.fingerprint,
        "configs": [{"crosscoder": a.model_dump(), "training": b.model_dump()} for a, b in configs],
    }
    logs = _resume(trainers, checkpoint, identity)
    for batch in feed.batches(trainers[0].step):
        metrics = [trainer.update(batch) for trainer in trainers]
        step = trainers[0].step
        if metrics[0]:
            for log, row in zip(logs, metrics, strict=True):
                log.append(row)
            if on_step is not None:
                on_step(step, metrics)
        if checkpoint is not None and step % checkpoint_every == 0:
            save_checkpoint(checkpoint, Checkpoint(identity, logs, _tensors(trainers)))
    done = [_finish(trainer, log, feed) for trainer, log in zip(trainers, logs, strict=True)]
    if checkpoint is not None:
        (checkpoint / FILE).unlink(missing_ok=True)
    return done


def _finish(trainer: Trainer, log: list[Metrics], feed: Feed) -> Trained:
    crosscoder = trainer.crosscoder.requires_grad_(False)
    shape = crosscoder.config
    size = chunk_rows(max(shape.n_latents, shape.n_models * shape.d_model))
    if shape.activation == "batch_topk":
        crosscoder.threshold.copy_(calibrate(crosscoder, feed.held_out(size), feed.n_held_out))
    return Trained(crosscoder, log, evaluate_chunks(crosscoder, feed.held_out(size)), *feed.judged)


def _resume(trainers: Sequence[Trainer], folder: Path | None, identity: dict[str, Any]) -> list[list[Metrics]]:
    found = None if folder is None else load_checkpoint(folder, identity)
    if found is None:
        return [[] for _ in trainers]
    for i, trainer in enumerate(trainers):
        prefix = f"{i}."
        state = {name.removeprefix(prefix): t for name, t in found.tensors.items() if name.startswith(prefix)}
        trainer.restore(state)
    return found.logs


def _tensors(trainers: Sequence[Trainer]) -> dict[str, torch.Tensor]:
    return {f"{i}.{name}": tensor for i, trainer in enumerate(trainers) for name, tensor in trainer.state().items()}


def _refuse_unequal(configs: Sequence[tuple[CrosscoderConfig, TrainConfig]]) -> None:
    if not configs:
        raise InterpError("train: no crosscoder is asked for; give at least one pair of configs")
    (shape, recipe), *others = configs
    for other_shape, other in others:
        for name in ("n_models", "d_model"):
            if getattr(other_shape, name) != getattr(shape, name):
                raise InterpError(f"train: crosscoders trained in one pass share {name}; train the others apart")
        for name in (*SHARED, "data_order_seed"):
            if getattr(other, name) != getattr(recipe, name):
                raise InterpError(
                    f"train: crosscoders trained in one pass share {name.replace('data_order_seed', 'data_seed')},"
                    f" not {getattr(recipe, name)} and {getattr(other, name)}; train the others apart"
                )


@dataclass(frozen=True)
class Checkpoint:
    """What a run has come to."""

    identity: dict[str, Any]
    """The whole config and the hash of the data: what must be equal for the run to go on."""
    logs: list[list[dict[str, float]]]
    """Rows of metrics so far, of each crosscoder."""
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write beside the present file, then put in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"identity": json.dumps(checkpoint.identity), "logs": json.dumps(checkpoint.logs)}
    scratch = folder / f"{FILE}.{os.getpid()}"
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, scratch, said)
        scratch.replace(folder / FILE)
    finally:
        scratch.unlink(missing_ok=True)


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The run to go on with; None where there is none.

    Raises:
        InterpError: the file is damaged, or belongs to a run with another config or other data.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found, logs = json.loads(said["identity"]), json.loads(said["logs"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InterpError(f"{path}: damaged ({error}); remove it to train anew") from error
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        old, new = _flat(found), _flat(wanted)
        key = next(key for key in sorted(old | new) if old.get(key) != new.get(key))
        raise InterpError(
            f"{path}: belongs to a run with {key} = {old.get(key)!r}, now {new.get(key)!r};"
            " give that run's settings and data, or remove the file to train anew"
        )
    return Checkpoint(found, logs, tensors)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()}
