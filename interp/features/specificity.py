"""Which latents belong to one model: decoder norms, and Latent Scaling (Minder, Dumas et al. 2025, 2504.02922)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.crosscoder import Crosscoder
from interp.features.codes import chunks

NU_ERROR, NU_RECON = 0.2, 0.5
"""A latent is claimed for a model only where both ratios of every other model stay below these."""
NORM_EXCLUSIVE = 0.7
"""Specificity from which a latent may be claimed. On planted latents either test alone is wrong now and then, both
together hardly ever (`experiments/planted.py`, whose tuning seeds this was chosen on)."""


@dataclass(frozen=True)
class Scaling:
    """β of every latent: how much of it each model's target holds, probed by each model's decoder."""

    error: Float[Tensor, "latents probe target"]
    """Target: the model's reconstruction error with the latent's own part added back."""
    reconstruction: Float[Tensor, "latents probe target"]
    """Target: the model's reconstruction."""


@dataclass(frozen=True)
class Exclusive:
    """Which latents are claimed for one model, and the numbers that the claims are read from."""

    model: Int[np.ndarray, " latents"]
    """Number of the model of the largest decoder."""
    by_norm: Bool[np.ndarray, " latents"]
    """Claimed by its specificity alone."""
    after_scaling: Bool[np.ndarray, " latents"]
    """And where Latent Scaling supports it."""
    nu_error: Float[np.ndarray, " latents"]
    nu_recon: Float[np.ndarray, " latents"]


def exclusive(
    cc: Crosscoder, rows: Float[Tensor, "rows models d_model"], alive: Bool[np.ndarray, " latents"]
) -> Exclusive:
    """The latents that are one model's alone, of those that are alive."""
    share = specificity(cc.W_dec.detach())
    model = share.argmax(1)
    scaling = latent_scaling(cc, rows)
    nu_error, nu_recon = (worst_other(nu(beta), model) for beta in (scaling.error, scaling.reconstruction))
    by_norm = alive & (share.amax(1).cpu().numpy() > NORM_EXCLUSIVE)
    kept = by_norm & (nu_error < NU_ERROR) & (nu_recon < NU_RECON)
    return Exclusive(model.cpu().numpy(), by_norm, kept, nu_error, nu_recon)


def specificity(w_dec: Float[Tensor, "latents models d_model"]) -> Float[Tensor, "latents models"]:
    """‖W_dec[j, m]‖ / Σ_m' ‖W_dec[j, m']‖: 1/n when shared, 1 when exclusive to m."""
    norms = w_dec.norm(dim=2)
    return norms / norms.sum(1, keepdim=True).clamp(min=1e-12)


def smallest_cosine(w_dec: Float[Tensor, "latents models d_model"]) -> Float[Tensor, " latents"]:
    """Smallest cosine between two models' decoders of a latent: 1 when merely rescaled, lower when rotated."""
    unit = torch.nn.functional.normalize(w_dec, dim=2)
    return torch.einsum("lmd,lnd->lmn", unit, unit).flatten(1).amin(1)


@torch.inference_mode()
def latent_scaling(cc: Crosscoder, rows: Float[Tensor, "rows models d_model"]) -> Scaling:
    """β_{j,p,m} = Σ_t f_j ⟨d_jp, y_mt⟩ / (Σ_t f_j² ‖d_jp‖²) in the crosscoder's own (normalised) units.

    With y_m = e_m + f_j d_jm for the error target, Σ_t f_j ⟨d_jp, y_mt⟩ = ⟨d_jp, Σ_t f_j e_mt⟩ + Σ_t f_j² ⟨d_jp, d_jm⟩,
    so that one pass over the rows serves every latent.
    """
    n, m, d = cc.W_dec.shape
    f_error = torch.zeros(m, n, d, dtype=torch.float64, device=cc.mean.device)
    f_recon = torch.zeros_like(f_error)
    f_squared = torch.zeros(n, dtype=torch.float64, device=cc.mean.device)
    for piece in chunks(rows):
        chunk = piece.to(cc.mean.device)
        f = cc.encode(chunk)
        recon = torch.einsum("bl,lmd->bmd", f, cc.W_dec) + cc.b_dec
        error = cc.normalise(chunk) - recon
        f_error += torch.einsum("bl,bmd->mld", f, error).double()
        # About the mean: a bias is in the reconstruction of every token, whatever the latent does.
        f_recon += torch.einsum("bl,bmd->mld", f, recon - cc.b_dec).double()
        f_squared += f.square().sum(0).double()
    w_dec = cc.W_dec.double()
    gram = torch.einsum("lpd,lmd->lpm", w_dec, w_dec)
    scale = (f_squared[:, None] * w_dec.square().sum(2)).clamp(min=1e-12)[:, :, None]
    error = torch.einsum("lpd,mld->lpm", w_dec, f_error) + f_squared[:, None, None] * gram
    return Scaling(error / scale, torch.einsum("lpd,mld->lpm", w_dec, f_recon) / scale)


def nu(beta: Float[Tensor, "latents probe target"]) -> Float[Tensor, "latents probe target"]:
    """β of each target over β of the probe's own model; what divides by a β that is not positive is +inf."""
    own = torch.diagonal(beta, dim1=1, dim2=2)[:, :, None]
    return torch.where(own > 0, beta / own, torch.inf)


def worst_other(ratios: Float[Tensor, "latents probe target"], claimed: Tensor) -> Float[np.ndarray, " latents"]:
    """The largest |ν| of another model, for the model each latent is claimed for."""
    each = torch.arange(len(ratios), device=ratios.device)
    picked = ratios[each, claimed].abs().clone()
    picked[each, claimed] = 0.0
    return picked.amax(1).cpu().numpy()
