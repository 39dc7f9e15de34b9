"""Training crosscoders: one, or several in one pass over the rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
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
from interp.crosscoder.rows import RowSource, chunk_rows
from interp.crosscoder.trainer import Metrics, Trainer
from interp.errors import InterpError, first_difference, one_line
from interp.locks import locked

OnStep = Callable[[int, Sequence[Metrics]], None]
FILE = "training.safetensors"
SHARED = ("steps", "batch_size", "outlier_ratio", "shuffle_rows", "log_every")


@dataclass(frozen=True)
class Trained:
    """A crosscoder and the record of its training."""

    crosscoder: Crosscoder
    log: list[Metrics]
    """One row of metrics every `log_every` steps and at the last step; see `Trainer.update`."""
    held_out: Evaluation
    """Measured on held-out rows, on which the gate's threshold was set too."""
    n_bad: int
    """Rows dropped because they held NaN or infinity."""
    n_outlying: int
    """Rows left out as outliers of the norm."""


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
    """Train on `rows` [N, models, d_model] and calibrate the gate on held-out rows.

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

    `rows` is a tensor [N, models, d_model] of any float type, a store, or an iterable of such tensors (see
    `StreamFeed`). Held out, that is never trained on, are the rows that a store or an iterable marks (`SplitRows`), or
    else a random 5 % (at least 2,048, at most a fifth; of an iterable's first `shuffle_rows`); at most 131,072 of them
    are measured on. Rows with copies among the training rows are not independent of them: mark them by problem. Mean
    and scale are those of the training rows. The loss is `squared_error` + aux_coefficient * `aux_k` + sparsity *
    penalty, on normalised rows.

    The same seed gives the same weights, to the bit, on the same machine with the same number of threads; so does a
    training that is killed and called again with the same `checkpoint` folder, where its state is kept every
    `checkpoint_every` steps and at the last: remove it once the result is saved. `on_step(step, one row of metrics per
    crosscoder)` is called every `log_every` steps and at the last step.

    Raises:
        InterpError: rows of another shape or type, too few or too many non-finite rows, a model that never varies,
            more memory than there is, divergence, a checkpoint of another run or one that another process writes, or
            configs that cannot share batches.
    """
    _refuse_unequal(configs)
    refuse_too_large(configs, device, streamed=not isinstance(rows, (Tensor, RowSource)))
    feed = open_feed(rows, *configs[0])
    trainers = [Trainer(*pair, feed.normaliser, device) for pair in configs]
    identity = {
        "data": feed.fingerprint,
        "configs": [{"crosscoder": a.model_dump(), "training": b.model_dump()} for a, b in configs],
    }
    with nullcontext() if checkpoint is None else locked(checkpoint):
        logs = _resume(trainers, checkpoint, identity)
        for batch in feed.batches(trainers[0].step):
            metrics = [trainer.update(batch) for trainer in trainers]
            step = trainers[0].step
            if metrics[0]:
                for log, row in zip(logs, metrics, strict=True):
                    log.append(row)
                if on_step is not None:
                    on_step(step, metrics)
            if checkpoint is not None and (step % checkpoint_every == 0 or step == configs[0][1].steps):
                for trainer in trainers:
                    trainer.refuse_diverged()
                save_checkpoint(checkpoint, Checkpoint(identity, logs, _tensors(trainers)))
        return [_finish(trainer, log, feed) for trainer, log in zip(trainers, logs, strict=True)]


def _finish(trainer: Trainer, log: list[Metrics], feed: Feed) -> Trained:
    trainer.refuse_diverged()
    crosscoder = trainer.crosscoder.requires_grad_(False)
    shape = crosscoder.config
    size = chunk_rows(max(shape.n_latents, shape.n_models * shape.d_model))
    if shape.activation == "batch_topk":
        crosscoder.threshold.copy_(calibrate(crosscoder, lambda: feed.held_out(size)))
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
    """State of an interrupted training."""

    identity: dict[str, Any]
    """The configs and the hash of the data; training resumes only where they are equal."""
    logs: list[list[Metrics]]
    """Rows of metrics so far, of each crosscoder."""
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the state with its checksum to a draft, then rename it over the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    metadata = {"identity": json.dumps(checkpoint.identity), "logs": json.dumps(checkpoint.logs)}
    draft = folder / f"{FILE}.{os.getpid()}"
    try:
        save_file(tensors, draft, metadata | {"sha256": _checksum(tensors, metadata)})
        draft.replace(folder / FILE)
    finally:
        draft.unlink(missing_ok=True)


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The state to resume from; None where there is none.

    Raises:
        InterpError: the file is damaged, or belongs to a training with another config or other data.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop("sha256") != _checksum(tensors, metadata):
            raise ValueError("its contents do not have its checksum")
        found, logs = json.loads(metadata["identity"]), json.loads(metadata["logs"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InterpError(f"{path}: damaged ({one_line(error)}); remove it to train anew") from error
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        key, old, new = first_difference(found, wanted) or ("another type of a value", None, None)
        raise InterpError(
            f"{path}: belongs to a training with {key} = {old!r}, now {new!r};"
            " use that training's settings and data, or remove the file to train anew"
        )
    return Checkpoint(found, logs, tensors)


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 of all names and contents."""
    found = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
