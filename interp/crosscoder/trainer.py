"""The updates of one crosscoder: weights, optimiser, schedules and dead latents, whatever rows are fed to it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig, TrainConfig, check_pair
from interp.crosscoder.encoder import Encoder
from interp.crosscoder.loss import Forward, aux_k, forward, squared_error
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.rows import Normaliser
from interp.errors import InterpError

Metrics = dict[str, float]
ADAM = ("exp_avg", "exp_avg_sq", "step")


class Trainer:
    """A crosscoder, its optimiser, and the number of rows since each latent last fired."""

    def __init__(
        self, config: CrosscoderConfig, train_config: TrainConfig, normaliser: Normaliser, device: torch.device | str
    ):
        try:
            check_pair(config, train_config)
        except ValueError as error:
            raise InterpError(f"train: {error}") from error
        self.config = train_config
        self.crosscoder = Crosscoder(
            config, train_config.seed, shared=train_config.shared_init, transposed=train_config.transposed_init
        ).to(device)
        self.crosscoder.mean.copy_(normaliser.mean)
        self.crosscoder.scale.copy_(normaliser.scale[:, None].expand_as(self.crosscoder.scale))
        self._weights = dict(self.crosscoder.named_parameters())
        self._optimiser = torch.optim.Adam(self._weights.values(), fused=True)
        self._silent = torch.zeros(config.n_latents, dtype=torch.long, device=device)
        self._encoder = Encoder(getattr(torch, train_config.encoder_dtype))
        self.step = 0

    def update(self, rows: Float[Tensor, "batch models d_model"]) -> Metrics:
        """One step on rows in input units. Returns a row of metrics every `log_every` steps and at the last, else {}.

        Metrics: `step` (from 1), `lr`, `loss` (without AuxK and penalty), `aux`, `penalty`, and of this batch under the
        gate of training `l0`, `fve_{model}` (about the training mean) and `dead_share`. They are of a small batch that
        is trained on; publish `evaluate` on held-out rows instead.

        Raises:
            InterpError: at a step with metrics, the loss is not finite.
        """
        self.step += 1
        config = self.config
        x = self.crosscoder.normalise(rows.to(self._silent.device)).flatten(1)
        pre = self._encoder(self.crosscoder, x)
        done = forward(self.crosscoder, x, pre, k_at(self.step, self.crosscoder.config, config), config.bandwidth)
        loss = squared_error(done.x_hat, x, self.crosscoder.config.d_model)
        dead = self._silent >= config.dead_after_rows
        aux = aux_k(self.crosscoder, x, pre, x - done.x_hat, dead, config) if config.aux_coefficient else None
        total = loss if aux is None else loss + config.aux_coefficient * aux
        if config.sparsity:
            total = total + sparsity_at(self.step, config) * done.penalty
        self._optimiser.zero_grad()
        total.backward()
        self._step()
        self._silent += len(x)
        self._silent[done.active.fired(done.values.detach())] = 0
        if self.step % config.log_every and self.step != config.steps:
            return {}
        return self._metrics(x, done, loss, aux, dead)

    def _step(self) -> None:
        if self.crosscoder.config.n_dedicated:
            self._keep_dedicated()
        if self.config.freeze_decoder:
            self.crosscoder.decoder.grad.zero_()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(self._weights.values(), self.config.grad_clip)
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.lr * lr_factor(self.step, self.config)
        self._optimiser.step()

    def _keep_dedicated(self) -> None:
        """Zero the gradient of decoders that are zero by design, so that Adam never moves them."""
        gradient = self.crosscoder.decoder.grad.view_as(self.crosscoder.W_dec)  # type: ignore[union-attr]
        for model in range(self.crosscoder.config.n_models):
            own = gradient[self.crosscoder.config.dedicated(model)]
            own[:, :model] = 0.0
            own[:, model + 1 :] = 0.0

    @torch.no_grad()
    def _metrics(self, x: Tensor, done: Forward, loss: Tensor, aux: Tensor | None, dead: Tensor) -> Metrics:
        if not math.isfinite(float(loss)):
            raise InterpError(f"train: the loss is {float(loss)} at step {self.step}; lower lr={self.config.lr}")
        shape = (-1, self.crosscoder.config.n_models, self.crosscoder.config.d_model)
        error, square = (done.x_hat - x).view(shape).double(), x.view(shape).double()
        fve = 1 - error.square().sum((0, 2)) / square.square().sum((0, 2))
        return {
            "step": float(self.step),
            "lr": self.config.lr * lr_factor(self.step, self.config),
            "loss": float(loss),
            "aux": 0.0 if aux is None else float(aux),
            "penalty": float(done.penalty),
            "l0": float((done.values > 0).sum()) / len(x),
            "dead_share": float(dead.double().mean()),
            **{f"fve_{model}": value for model, value in enumerate(fve.tolist())},
        }

    def refuse_diverged(self) -> None:
        """Refuse weights that are of no use, before they are saved or measured.

        Raises:
            InterpError: NaN or infinity in a weight, which is where a loss that is not finite leads within a step.
        """
        for name, weight in self._weights.items():
            if not weight.isfinite().all():
                raise InterpError(
                    f"train: {name} holds NaN or infinite values after step {self.step}; lower lr={self.config.lr}"
                )

    def state(self) -> dict[str, Tensor]:
        """Everything except the data that the next step depends on."""
        state = {f"weights.{name}": tensor for name, tensor in self.crosscoder.state_dict().items()}
        state |= {"silent": self._silent, "step": torch.tensor(self.step)}
        for name, weight in self._weights.items():
            state |= {f"adam.{name}.{part}": self._optimiser.state[weight][part] for part in ADAM}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Resume from a `state`, to the bit."""
        own = {name.removeprefix("weights."): t for name, t in state.items() if name.startswith("weights.")}
        self.crosscoder.load_state_dict(own)
        self._silent.copy_(state["silent"])
        self.step = int(state["step"])
        for name, weight in self._weights.items():
            moments = {part: state[f"adam.{name}.{part}"] for part in ADAM}
            self._optimiser.state[weight] = {k: v if k == "step" else v.to(weight.device) for k, v in moments.items()}
            if weight.is_cuda:
                self._optimiser.state[weight]["step"] = moments["step"].to(weight.device)


def lr_factor(step: int, config: TrainConfig) -> float:
    """The learning rate at `step` (from 1) over its peak: linear up, flat, linear down to 1 / (steps of decay)."""
    up = step / max(1.0, config.warmup_fraction * config.steps)
    down = (config.steps - step + 1) / max(1.0, config.decay_fraction * config.steps)
    return min(1.0, up, down)


def k_at(step: int, config: CrosscoderConfig, train_config: TrainConfig) -> int | None:
    """Active latents per row at `step` (from 1): k_start to k, linearly; None where the gate has no k."""
    if config.k is None or train_config.k_start is None:
        return config.k
    share = min(1.0, (step - 1) / max(1.0, train_config.k_anneal_fraction * train_config.steps))
    return min(config.n_latents, round(train_config.k_start + share * (config.k - train_config.k_start)))


def sparsity_at(step: int, config: TrainConfig) -> float:
    """The penalty's weight at `step` (from 1)."""
    return config.sparsity * min(1.0, step / max(1.0, config.sparsity_warmup_fraction * config.steps))
