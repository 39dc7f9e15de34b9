"""The loss of training as sparse products; only the pre-activations are dense."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.crosscoder import gates
from interp.crosscoder.config import TrainConfig
from interp.crosscoder.encoder import Dense, Screened
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.sparse import Active, decode, encoded


class Forward(NamedTuple):
    """Code and reconstruction of one batch, in normalised space."""

    x_hat: Float[Tensor, "batch models_times_d_model"]
    values: Float[Tensor, " active"]
    """Activations f at the active entries."""
    active: Active
    penalty: Float[Tensor, ""]
    """Sparsity per row: the L1 of the scores (relu), the number of active latents (jumprelu), 0 elsewhere."""


def forward(
    crosscoder: Crosscoder,
    x: Float[Tensor, "batch models_times_d_model"],
    pre: Dense | Screened,
    k: int | None,
    bandwidth: float,
) -> Forward:
    """The code under the gate of training and its reconstruction. No gradient flows through the choice of entries."""
    kind = crosscoder.config.activation
    with torch.no_grad():
        norms = crosscoder.decoder_norms()
        match kind:
            case "batch_topk":
                places, chosen = gates.batch_topk(pre, norms, (k or 0) * len(x))
            case "topk":
                places = gates.topk(pre.upper, norms, k or 0)
                chosen = pre.at(places)
            case "jumprelu":  # also positive ones in the window below the threshold, for its gradient
                lowest = (crosscoder.log_threshold.exp() - bandwidth / 2).clamp(min=0.0)
                places = gates.above(pre.upper, lowest.to(pre.upper.dtype))
                chosen = pre.at(places)
            case "relu":
                places = gates.above(pre.upper, 0.0)
                chosen = pre.at(places)
        active = Active.at(places, *pre.upper.shape)
    values = encoded(chosen.to(x.dtype), x, crosscoder.encoder, crosscoder.b_enc, active)
    penalty = values.new_zeros(())
    if kind == "jumprelu":
        threshold = crosscoder.log_threshold.exp()[active.latent]
        penalty = _Step.apply(values, threshold, bandwidth).sum() / len(x)  # type: ignore[union-attr]
        values = _JumpReLU.apply(values, threshold, bandwidth)
    elif kind == "relu":
        penalty = (values * crosscoder.decoder_norms()[active.latent]).sum() / len(x)
    x_hat = decode(values, crosscoder.decoder, active) + crosscoder.b_dec.flatten()  # type: ignore[arg-type]
    return Forward(x_hat, values, active, penalty)  # type: ignore[arg-type]


def squared_error(
    x_hat: Float[Tensor, "batch models_times_d_model"], x: Float[Tensor, "batch models_times_d_model"], d_model: int
) -> Float[Tensor, ""]:
    """Squared differences averaged over rows and coordinates, then summed over models.

    On normalised rows a reconstruction by the mean alone costs n_models.
    """
    return (x_hat - x).square().sum() / (len(x) * d_model)


def aux_k(
    crosscoder: Crosscoder,
    x: Float[Tensor, "batch models_times_d_model"],
    pre: Dense | Screened,
    error: Float[Tensor, "batch models_times_d_model"],
    dead: Bool[Tensor, " latents"],
    config: TrainConfig,
) -> Float[Tensor, ""]:
    """Error of predicting the residual of the reconstruction by dead latents (AuxK, Gao et al. 2024, appendix A.2).

    `error` is x - x_hat in normalised space, a constant; each row's `k_aux` best dead latents by score, after relu and
    without gate and decoder bias, predict it. Averaged like `squared_error`; 0 where no latent is dead.
    """
    which = dead.nonzero().squeeze(1)
    if len(which) == 0:
        return x.new_zeros(())
    k_aux = config.k_aux or max(1, crosscoder.config.d_model // 2)
    with torch.no_grad():
        theirs = pre.of(which)
        if len(which) > k_aux:
            places = gates.topk(theirs, crosscoder.decoder_norms(which), k_aux)
        else:
            places = gates.above(theirs, 0.0)
        active = Active.at(places, *theirs.shape)
        chosen = theirs.flatten()[places].to(x.dtype)
    W_enc, W_dec = crosscoder.encoder.index_select(0, which), crosscoder.decoder.index_select(0, which)
    values = encoded(chosen, x, W_enc, crosscoder.b_enc.index_select(0, which), active)
    return squared_error(decode(values, W_dec, active), error.detach(), crosscoder.config.d_model)


class _JumpReLU(torch.autograd.Function):
    """v where v > θ, else 0; θ's gradient through a rectangle of width ε (Rajamanoharan et al. 2024, eq. 11)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(values, threshold)
        ctx.bandwidth = bandwidth
        return torch.where(values > threshold, values, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        values, threshold = ctx.saved_tensors
        own = torch.where(values > threshold, grads[0], 0.0)
        return own, -threshold * _window(values, threshold, ctx.bandwidth) * grads[0], None


class _Step(torch.autograd.Function):
    """1 where v > θ, else 0; θ's gradient through the same rectangle (eq. 12), none for v."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(values, threshold)
        ctx.bandwidth = bandwidth
        return (values > threshold).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor, None]:
        values, threshold = ctx.saved_tensors
        return None, -_window(values, threshold, ctx.bandwidth) * grads[0], None


def _window(values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """A rectangle of area 1 about the threshold."""
    return ((values - threshold).abs() < bandwidth / 2).to(values.dtype) / bandwidth
