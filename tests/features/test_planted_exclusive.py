"""Latent Scaling on trained crosscoders: it names planted exclusive latents, and none where nothing is exclusive."""

import numpy as np
import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, train
from interp.crosscoder.planted import NONE, PlantedConfig, match, plant, score_claims
from interp.features.specificity import NU_ERROR, NU_RECON, latent_scaling, nu, specificity, worst_other

WORLD = PlantedConfig(d_model=48, n_shared=24, n_exclusive=4, n_rescaled=9, frequencies=(0.03, 0.1), noise=0.03)


def trained(rows, seed, steps, n_dedicated=0):
    shape = CrosscoderConfig(n_models=3, d_model=48, n_latents=72, k=3, n_dedicated=n_dedicated)
    recipe = TrainConfig(steps=steps, batch_size=256, lr=1e-2, seed=seed, dead_after_rows=20_000)
    return train(rows, shape, recipe)


def claims(cc, rows):
    """(by specificity, by Latent Scaling): the model each latent is claimed for, or NONE."""
    share = specificity(cc.W_dec)
    model = share.argmax(1)
    fires = (cc.encode(rows) > 0).any(0)
    scaling = latent_scaling(cc, rows)
    error, recon = (worst_other(nu(beta), model) for beta in (scaling.error, scaling.reconstruction))
    small = torch.from_numpy(np.logical_and(error < NU_ERROR, recon < NU_RECON))
    by_norm, by_scaling = fires & (share.amax(1) > 0.7), fires & small
    return (torch.where(yes, model, NONE) for yes in (by_norm, by_scaling))


@pytest.mark.parametrize("seed", [0, 2])
def test_planted_exclusive_latents_are_named(seed):
    planted = plant(WORLD.model_copy(update={"seed": seed}))
    cc = trained(planted.rows(30_000, 0), seed, 800)
    found = match(cc.decoder_in_input_units(), planted)
    _, by_scaling = claims(cc, planted.rows(8000, 1))
    score = score_claims(by_scaling, found, planted)
    assert score.precision >= 0.75 and score.recall >= 0.75


def copies(planted, n, seed, noise):
    """Model 0 three times over; with noise, each copy is off by an error of rounding of its own."""
    rows = planted.rows(n, seed)[:, :1].expand(-1, 3, -1).contiguous()
    if not noise:
        return rows
    off = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
    return (rows * (1 + 2**-8 * off)).bfloat16().float()


@pytest.mark.parametrize("noise", [False, True], ids=["exact copies", "bf16 noise"])
@pytest.mark.parametrize("n_dedicated", [0, 20])
def test_a_model_against_itself_has_no_exclusive_latent(n_dedicated, noise):
    planted = plant(WORLD)
    cc = trained(copies(planted, 30_000, 0, noise), 0, 400, n_dedicated)
    by_norm, by_scaling = claims(cc, copies(planted, 8000, 1, noise))
    assert (by_scaling == NONE).all()
    # 60 of the 72 latents are set aside, so that they must be used: exclusive by their norms, and by nothing else.
    n_by_norm = int((by_norm != NONE).sum())
    assert n_by_norm > 20 if n_dedicated else n_by_norm == 0
