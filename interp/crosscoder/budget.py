"""How much memory training takes, said and checked before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.encoder import is_screened
from interp.errors import InterpError

FLOAT = 4


def needed_bytes(
    config: CrosscoderConfig, train_config: TrainConfig, device: torch.device | str = "cpu"
) -> dict[str, int]:
    """Bytes that training holds at its fullest, by what for. Rows that lie in memory already are not counted."""
    width = config.n_models * config.d_model
    weights = FLOAT * (2 * config.n_latents * width + config.n_latents + width)
    code = train_config.batch_size * config.n_latents
    screened = is_screened(config, train_config.batch_size, torch.device(device))
    dtype = 2 if train_config.encoder_dtype == "bfloat16" or screened else FLOAT
    return {
        "weights": weights,
        "gradients": weights,
        "moments": 2 * weights,
        # the product itself, and either what the comparison with a floor makes or the scores of a dense choice
        "pre-activations": code * (dtype + (1 if config.activation != "topk" else FLOAT)),
        "batch": 4 * FLOAT * train_config.batch_size * width,
        "encoder in bfloat16": 2 * config.n_latents * width if dtype == 2 else 0,
    }


def refuse_too_large(configs: Sequence[tuple[CrosscoderConfig, TrainConfig]], device: torch.device | str) -> None:
    """Refuse work that cannot fit, or a device that is not there, before any of it is done.

    Raises:
        InterpError: more bytes are needed than are free; says how many of each and what to lower.
    """
    free = free_bytes(device)
    total = sum(_parts(configs, device).values())
    if total > free:
        raise InterpError(
            f"train: needs {described(configs, device)}, and {free / 1e9:.1f} GB are free on {device};"
            " lower n_latents or batch_size"
        )


def described(configs: Sequence[tuple[CrosscoderConfig, TrainConfig]], device: torch.device | str) -> str:
    """The budget in words."""
    parts = _parts(configs, device)
    listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items() if size)
    return f"{sum(parts.values()) / 1e9:.2f} GB ({listed})"


def _parts(configs: Sequence[tuple[CrosscoderConfig, TrainConfig]], device: torch.device | str) -> dict[str, int]:
    parts: dict[str, int] = {}
    for pair in configs:
        for name, size in needed_bytes(*pair, device).items():
            parts[name] = parts.get(name, 0) + size
    return parts


def free_bytes(device: torch.device | str) -> int:
    """Bytes that can still be taken on a device.

    Raises:
        InterpError: no such device.
    """
    try:
        where = torch.device(device)
        if where.type == "cuda":
            return torch.cuda.mem_get_info(where)[0]
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise InterpError(f"device {device}: not there ({str(error).splitlines()[0]}); give another") from error
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
