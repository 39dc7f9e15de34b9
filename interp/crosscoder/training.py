"""Training a BatchTopK crosscoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.data import batches, check_rows, fit_normaliser, split_rows
from interp.crosscoder.loss import aux_k, squared_error
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.selection import batch_topk_mask
from interp.crosscoder.threshold import calibrate
from interp.errors import InterpError

OnStep = Callable[[int, dict[str, float]], None]


class Forward(NamedTuple):
    """One batch on its way through, in normalised space."""

    pre: Float[Tensor, "batch latents"]
    kept: Bool[Tensor, "batch latents"]
    """The k * batch best scores."""
    x_hat: Float[Tensor, "batch models d_model"]


def train(
    rows: Float[Tensor, "rows models d_model"],
    config: CrosscoderConfig,
    train_config: TrainConfig,
    *,
    log: list[dict[str, float]] | None = None,
    on_step: OnStep | None = None,
    device: torch.device | str = "cpu",
) -> Crosscoder:
    """Train on `rows`, one residual per model in each, and calibrate the gate on rows held out.

    `rows` may be of any float type and memory-mapped: a batch at a time is copied and made fp32. A seeded 5 % of them
    (at least 2,048, at most a fifth) are never trained on; mean and scale come from the others. The loss is
    `squared_error` + aux_coefficient * `aux_k`, on normalised rows. The same seed gives the same weights, to the bit,
    on the same machine with the same number of threads.

    `log` receives a row of metrics every log_every steps and at the last; `on_step` hears (step, that row) at the same
    steps. A row holds `step` (from 1), `lr`, `loss` (without AuxK), `aux`, `l0` and `fve_{model}` of that very batch
    (BatchTopK, not the gate of inference; about the training mean), and `dead_share`. The batch is small and trained
    on: what may be published is `evaluate` on rows held out by the caller.

    Raises:
        InterpError: rows of another shape or type, too few or non-finite rows, a model that never varies, divergence.
    """
    check_rows(rows, config)
    generator = torch.Generator().manual_seed(train_config.seed)
    split = split_rows(len(rows), generator)
    crosscoder = Crosscoder(config, train_config.seed).to(device)
    normaliser = fit_normaliser(rows, split.train)
    crosscoder.mean.copy_(normaliser.mean)
    crosscoder.scale.copy_(normaliser.scale)
    optimiser = torch.optim.Adam(crosscoder.parameters(), fused=True)
    silent = torch.zeros(config.n_latents, dtype=torch.long, device=device)
    for step, places in enumerate(batches(split.train, train_config.batch_size, train_config.steps, generator), 1):
        x = crosscoder.normalise(rows[places.to(rows.device)].to(device))
        lr = train_config.lr * lr_factor(step, train_config)
        metrics = _update(crosscoder, optimiser, x, silent, lr, train_config, _is_logged(step, train_config))
        if metrics:
            row = {"step": float(step), "lr": lr} | metrics
            if not math.isfinite(row["loss"]):
                raise InterpError(f"train: the loss is {row['loss']} at step {step}; lower lr={train_config.lr}")
            if log is not None:
                log.append(row)
            if on_step is not None:
                on_step(step, row)
    crosscoder.requires_grad_(False)
    crosscoder.threshold.copy_(calibrate(crosscoder, rows, split.held_out))
    return crosscoder


def forward(crosscoder: Crosscoder, x: Float[Tensor, "batch models d_model"]) -> Forward:
    """BatchTopK of normalised rows: the batch's k * batch best scores survive. No gradient flows through the choice."""
    pre = crosscoder.pre_activations(x)
    with torch.no_grad():
        # Only positive scores can be chosen, so relu may come after the choice, where it costs nothing.
        kept = batch_topk_mask(pre * crosscoder.decoder_norms(), crosscoder.config.k * len(x))
    return Forward(pre, kept, crosscoder.reconstruct(torch.where(kept, pre, 0.0)))


def lr_factor(step: int, config: TrainConfig) -> float:
    """The learning rate at `step` (from 1) over its peak: linear up, flat, linear down to 1 / (steps of decay)."""
    up = step / max(1.0, config.warmup_fraction * config.steps)
    down = (config.steps - step + 1) / max(1.0, config.decay_fraction * config.steps)
    return min(1.0, up, down)


def _is_logged(step: int, config: TrainConfig) -> bool:
    return step % config.log_every == 0 or step == config.steps


def _update(
    crosscoder: Crosscoder,
    optimiser: torch.optim.Optimizer,
    x: Float[Tensor, "batch models d_model"],
    silent: Int[Tensor, " latents"],
    lr: float,
    config: TrainConfig,
    with_metrics: bool,
) -> dict[str, float]:
    """One step on one batch of normalised rows; `silent` counts, in place, the rows since each latent last fired."""
    pre, kept, x_hat = forward(crosscoder, x)
    loss = squared_error(x_hat, x)
    dead = silent >= config.dead_after_rows
    k_aux = config.k_aux or max(1, crosscoder.config.d_model // 2)
    aux = aux_k(crosscoder, pre, x - x_hat, dead, k_aux) if config.aux_coefficient else loss.new_zeros(())
    optimiser.zero_grad()
    (loss + config.aux_coefficient * aux).backward()
    torch.nn.utils.clip_grad_norm_(crosscoder.parameters(), config.grad_clip)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    silent += len(x)
    silent[kept.any(0)] = 0
    return _metrics(x, x_hat, kept, dead, loss, aux) if with_metrics else {}


@torch.no_grad()
def _metrics(
    x: Float[Tensor, "batch models d_model"],
    x_hat: Float[Tensor, "batch models d_model"],
    kept: Bool[Tensor, "batch latents"],
    dead: Bool[Tensor, " latents"],
    loss: Float[Tensor, ""],
    aux: Float[Tensor, ""],
) -> dict[str, float]:
    fve = 1 - (x_hat - x).double().square().sum((0, 2)) / x.double().square().sum((0, 2))
    return {
        "loss": float(loss),
        "aux": float(aux),
        "l0": float(kept.sum()) / len(x),
        "dead_share": float(dead.double().mean()),
        **{f"fve_{model}": value for model, value in enumerate(fve.tolist())},
    }
