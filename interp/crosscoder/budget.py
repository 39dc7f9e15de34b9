"""How much memory training takes, described and checked before it starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from interp import memory
from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.encoder import is_screened
from interp.crosscoder.feeds import buffer_rows
from interp.crosscoder.gates import SAMPLE
from interp.errors import InterpError

FLOAT = 4
_GATE_BYTES = {"batch_topk": 1, "topk": 4, "relu": 22, "jumprelu": 24}
"""Bytes per entry of the code for choosing its active entries and for the products with them; half of the entries are
active under relu and jumprelu when training starts."""
_ACTIVE_BYTES = 60
"""Bytes per active entry under batch_topk and topk: places, rows, latents, values and their gradients."""

Pair = tuple[CrosscoderConfig, TrainConfig]


def needed_bytes(
    config: CrosscoderConfig, train_config: TrainConfig, device: torch.device | str = "cpu"
) -> dict[str, int]:
    """Bytes that updates take on the device at their peak, by purpose.

    Upper estimates, within a factor of about 1.5 of the measured peak where AuxK is at work on nearly all latents.
    Not included: stored rows, the buffer of a stream (`buffer_bytes`), and up to 0.1 GB for pieces of rows before and
    after the updates.
    """
    width = config.n_models * config.d_model
    weights = FLOAT * (2 * config.n_latents * width + config.n_latents + width)
    code = train_config.batch_size * config.n_latents
    dtype = 2 if train_config.encoder_dtype == "bfloat16" or _screened(config, train_config, device) else FLOAT
    gate = _gate_bytes(config, train_config)
    aux = _aux_bytes(config, train_config, weights) if train_config.aux_coefficient else 0
    return {
        "weights": weights,
        "gradients": weights,
        "moments": 2 * weights,
        "pre-activations": code * dtype,
        "gate": gate,
        "AuxK": max(0, aux - gate),  # after the gate's own temporaries are gone
        "batch": 7 * FLOAT * train_config.batch_size * width,
        "encoder in bfloat16": 2 * config.n_latents * width if dtype == 2 else 0,
    }


def _screened(config: CrosscoderConfig, train_config: TrainConfig, device: torch.device | str) -> bool:
    return is_screened(config, train_config.batch_size, torch.device(device))


def _gate_bytes(config: CrosscoderConfig, train_config: TrainConfig) -> int:
    code = train_config.batch_size * config.n_latents
    size = code * _GATE_BYTES[config.activation]
    if config.k is None:
        return size
    active = train_config.batch_size * max(config.k, train_config.k_start or 0)
    # Of a small batch all positive entries are ranked.
    return size + _ACTIVE_BYTES * max(active, min(code, 2 * SAMPLE) // 2)


def _aux_bytes(config: CrosscoderConfig, train_config: TrainConfig, weights: int) -> int:
    """The dead latents' pre-activations and scores, copies of their weights, and the entries chosen; at worst all
    latents are dead."""
    k_aux = min(config.n_latents, train_config.k_aux or max(1, config.d_model // 2))
    code = train_config.batch_size * config.n_latents
    return 2 * FLOAT * code + weights + _ACTIVE_BYTES * train_config.batch_size * k_aux


def buffer_bytes(config: CrosscoderConfig, train_config: TrainConfig) -> int:
    """Bytes of main memory for the buffer of a stream of fp32 rows and the rows held out of it."""
    rows = buffer_rows(train_config) + train_config.shuffle_rows // 5
    return FLOAT * rows * config.n_models * config.d_model


def refuse_too_large(configs: Sequence[Pair], device: torch.device | str, *, streamed: bool = False) -> None:
    """Refuse work that cannot fit, or a device that is not there, before any of it is done.

    Raises:
        InterpError: more bytes are needed than are free; names how many of each and what to lower.
    """
    free_bytes(device)  # refuses a device that is not there
    needs = {str(device): sum(_parts(configs, device).values())}
    if streamed:
        host = "cpu" if torch.device(device).type != "cpu" else str(device)
        needs[host] = needs.get(host, 0) + buffer_bytes(*configs[0])
    for where, total in needs.items():
        if total > (free := free_bytes(where)):
            what = described(configs, device, streamed=streamed)
            lower = "n_latents, batch_size or shuffle_rows" if streamed else "n_latents or batch_size"
            raise InterpError(f"train: needs {what}, and {free / 1e9:.1f} GB are free on {where}; lower {lower}")


def described(configs: Sequence[Pair], device: torch.device | str, *, streamed: bool = False) -> str:
    """The budget in words."""
    parts = _parts(configs, device)
    if streamed:
        parts["stream's buffer"] = buffer_bytes(*configs[0])
    listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items() if size)
    return f"{sum(parts.values()) / 1e9:.2f} GB ({listed})"


def _parts(configs: Sequence[Pair], device: torch.device | str) -> dict[str, int]:
    parts: dict[str, int] = {}
    for pair in configs:
        for name, size in needed_bytes(*pair, device).items():
            parts[name] = parts.get(name, 0) + size
    return parts


def free_bytes(device: torch.device | str) -> int:
    """Bytes that can still be taken on a device: on a GPU also those that torch reserved and does not use.

    Raises:
        InterpError: no such device.
    """
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
        return memory.free_bytes(where)
    except (RuntimeError, AssertionError) as error:
        raise InterpError(f"device {device}: not there ({str(error).splitlines()[0]}); give another") from error
