"""Seeded rows, and crosscoders whose every weight and statistic is other than its start."""

import torch

from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.crosscoder.planted import PlantedConfig, plant

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


WORLD = PlantedConfig(d_model=24, n_shared=16, n_exclusive=8, n_rescaled=0, correlation=0, frequencies=(0.06, 0.06))


def planted_rows(n):
    """Rows [n, 3, 24] of 40 latents, 2.4 of them on at a time."""
    return plant(WORLD).rows(n, seed=0)
