"""What every format is read into, and the crosscoder that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from interp.crosscoder.config import Activation, CrosscoderConfig
from interp.crosscoder.module import Crosscoder
from interp.errors import InterpError


class Gate(NamedTuple):
    """Which latents stay active, and the numbers that this kind of gate needs."""

    activation: Activation
    k: int | None = None
    threshold: Float[Tensor, ""] | None = None
    """Of batch_topk: what a score must exceed."""
    log_threshold: Float[Tensor, " latents"] | None = None
    """Of jumprelu: log of what an activation must exceed."""


@dataclass(frozen=True)
class Parts:
    """A crosscoder's weights in the field's shapes, in the space of its normalised input."""

    W_enc: Float[Tensor, "models d_model latents"]
    W_dec: Float[Tensor, "latents models d_model"]
    b_enc: Float[Tensor, " latents"]
    b_dec: Float[Tensor, "models d_model"]
    gate: Gate
    mean: Float[Tensor, "models d_model"] | None = None
    """None is 0."""
    scale: Float[Tensor, "models columns"] | None = None
    """One column for all coordinates, or d_model of them; None is 1."""
    n_dedicated: int = 0


def build(path: Path, parts: Parts) -> Crosscoder:
    """The crosscoder of these parts; `path` is named in errors.

    Raises:
        InterpError: the gate does not fit the dictionary, or a scale is not above 0.
    """
    m, d, n = parts.W_enc.shape
    gate = parts.gate
    try:
        config = CrosscoderConfig(
            n_models=m,
            d_model=d,
            n_latents=n,
            k=gate.k,
            activation=gate.activation,
            n_dedicated=parts.n_dedicated,
        )
    except ValidationError as error:
        reason = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise InterpError(f"{path}: {reason}; put the weights and the config of one crosscoder together") from error
    state = {
        "encoder": rearrange(parts.W_enc, "m d l -> l (m d)"),
        "decoder": parts.W_dec.flatten(1),
        "b_enc": parts.b_enc,
        "b_dec": parts.b_dec,
        "mean": torch.zeros(m, d) if parts.mean is None else parts.mean,
        "scale": torch.ones(m, d) if parts.scale is None else parts.scale.expand(m, d),
        "threshold": torch.zeros(()) if gate.threshold is None else gate.threshold,
    }
    if not (state["scale"] > 0).all():
        raise InterpError(f"{path}: a factor that scales the input is not above 0; the file is damaged")
    if gate.log_threshold is not None:
        state["log_threshold"] = gate.log_threshold
    with torch.device("meta"):  # no random weights are drawn only to be thrown away
        crosscoder = Crosscoder(config)
    crosscoder.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, assign=True)
    return crosscoder


def bias_after_subtraction(
    b_enc: Float[Tensor, " latents"],
    W_enc: Float[Tensor, "models d_model latents"],
    b_dec: Float[Tensor, "models d_model"],
) -> Float[Tensor, " latents"]:
    """The encoder bias that gives (x - b_dec) W_enc + b_enc for x itself, summed in fp64."""
    return (b_enc.double() - torch.einsum("md,mdl->l", b_dec.double(), W_enc.double())).float()
