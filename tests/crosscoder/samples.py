"""Seeded rows, and crosscoders whose every weight and statistic is other than its start."""

from typing import NamedTuple

import torch
from torch import Tensor

from interp.crosscoder import Crosscoder, CrosscoderConfig

CONFIG = CrosscoderConfig(n_models=3, d_model=8, n_latents=40, k=4)


def random_rows(n, config=CONFIG, seed=0):
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(config.n_models, config.d_model, generator=generator)
    return offset + 3 * torch.randn(n, config.n_models, config.d_model, generator=generator)


def random_crosscoder(config=CONFIG, seed=0):
    crosscoder = Crosscoder(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for tensor in crosscoder.parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        crosscoder.mean.normal_(generator=generator)
        crosscoder.scale.copy_(
            0.3 + 1.7 * torch.rand(config.n_models, 1, generator=generator).expand_as(crosscoder.scale)
        )
        crosscoder.threshold.fill_(0.9)
    return crosscoder


class Planted(NamedTuple):
    rows: Tensor
    """[n, 3, 24]"""
    directions: Tensor
    """[40, 3, 24]: 16 in all models, with a direction of its own in each; then 8 for each model, zero in the others."""


def planted(n, seed=0, shared=16, exclusive=8, d_model=24):
    generator = torch.Generator().manual_seed(seed)
    n_latents = shared + 3 * exclusive
    directions = torch.nn.functional.normalize(torch.randn(n_latents, 3, d_model, generator=generator), dim=2)
    for m in range(3):
        start = shared + m * exclusive
        directions[start : start + exclusive] *= (torch.arange(3) == m)[:, None]
    on = torch.rand(n, n_latents, generator=generator) < 0.06
    f = on * (1 + torch.rand(n, n_latents, generator=generator))
    noise = 0.02 * torch.randn(n, 3, d_model, generator=generator)
    return Planted(torch.einsum("bl,lmd->bmd", f, directions) + noise, directions)
