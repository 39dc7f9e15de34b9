"""Which latents belong to one model: decoder norms, and Latent Scaling (Minder, Dumas et al. 2025, 2504.02922)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from interp.crosscoder import Crosscoder
from interp.crosscoder.sparse import Active, latent_sums, weighted_latents, weighted_rows
from interp.features.codes import CHUNK, chunks, encode_sparse

NU_ERROR, NU_RECON = 0.2, 0.5
"""A latent is claimed for a model only where both ratios of every other model stay below these."""
NORM_EXCLUSIVE = 0.7
"""Specificity from which a latent may be claimed. On planted latents either test alone is wrong now and then, both
together hardly ever (`experiments/planted.py`, whose tuning seeds this was chosen on)."""
LATENTS = 4096
"""Latents whose decoders are held in double precision at a time."""


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


def exclusive(cc: Crosscoder, rows: Float[Tensor, "rows models d_model"], f: csc_array) -> Exclusive:
    """The latents that are one model's alone, of those that are alive.

    Args:
        f: the rows' code.
    """
    alive = np.diff(f.indptr) > 0
    share = specificity(cc.W_dec.detach())
    model = share.argmax(1)
    scaling = latent_scaling(cc, rows, f)
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
def latent_scaling(cc: Crosscoder, rows: Float[Tensor, "rows models d_model"], f: csc_array | None = None) -> Scaling:
    """β_{j,p,m} = Σ_t f_j ⟨d_jp, y_mt⟩ / (Σ_t f_j² ‖d_jp‖²) in the crosscoder's own (normalised) units.

    With y_m = e_m + f_j d_jm for the error target, Σ_t f_j ⟨d_jp, y_mt⟩ = ⟨d_jp, Σ_t f_j e_mt⟩ + Σ_t f_j² ⟨d_jp, d_jm⟩,
    so that one pass over the rows serves every latent.

    Args:
        f: the rows' code; encoded here where it is not given.
    """
    code = csr_array(f if f is not None else encode_sparse(cc, rows))
    w_dec, f_squared = cc.W_dec.detach(), torch.zeros(len(cc.W_dec), dtype=torch.float64, device=cc.mean.device)
    gram = _between_models(w_dec, w_dec)
    for start in range(0, len(rows), CHUNK):
        active, values = _active(code, len(w_dec), start, min(start + CHUNK, len(rows)), f_squared.device)
        f_squared += latent_sums(values.square(), active)
    scale = (f_squared[:, None] * torch.diagonal(gram, dim1=1, dim2=2)).clamp(min=1e-12)[:, :, None]
    # A pass over the rows for each target, so that the sums of one only are held.
    error, recon = (_products(cc, rows, code, of_error=of_error) for of_error in (True, False))
    return Scaling((error + f_squared[:, None, None] * gram) / scale, recon / scale)


def _products(
    cc: Crosscoder, rows: Float[Tensor, "rows models d_model"], code: csr_array, *, of_error: bool
) -> Float[Tensor, "latents probe target"]:
    """⟨d_jp, Σ_t f_j y_mt⟩ of the models' errors, or of their reconstructions about the mean: a bias is in the
    reconstruction of every token, whatever the latent does."""
    n, m, d = cc.W_dec.shape
    total = torch.zeros(n, m * d, dtype=torch.float64, device=cc.mean.device)
    for x, active, values in _pieces(cc, rows, code):
        y = weighted_rows(values, active, cc.decoder.detach())
        if of_error:
            y = cc.normalise(x).flatten(1) - y - cc.b_dec.flatten()
        total += weighted_latents(values, active, y)
    return _between_models(cc.W_dec.detach(), total.view(n, m, d))


def _pieces(
    cc: Crosscoder, rows: Float[Tensor, "rows models d_model"], code: csr_array
) -> Iterator[tuple[Float[Tensor, "some models d_model"], Active, Float[Tensor, " active"]]]:
    """Some rows at a time, with the active entries of their code."""
    start, device = 0, cc.mean.device
    for piece in chunks(rows):
        yield piece.to(device), *_active(code, len(cc.W_dec), start, start + len(piece), device)
        start += len(piece)


def _between_models(
    x: Float[Tensor, "latents probe d_model"], y: Float[Tensor, "latents target d_model"]
) -> Float[Tensor, "latents probe target"]:
    """Every latent's products, in double precision; a group of latents at a time, so that no copy of all is made."""
    parts = zip(x.split(LATENTS), y.split(LATENTS), strict=True)
    return torch.cat([torch.einsum("lpd,lmd->lpm", a.double(), b.double()) for a, b in parts])


def _active(
    code: csr_array, n_latents: int, start: int, stop: int, device: torch.device
) -> tuple[Active, Float[Tensor, " active"]]:
    """The active entries of some rows, and their values."""
    some = code[start:stop]
    per_row = torch.from_numpy(np.diff(some.indptr).astype(np.int64))
    row = torch.repeat_interleave(torch.arange(stop - start), per_row).to(device)
    latent, values = (torch.from_numpy(x).to(device) for x in (some.indices.astype(np.int64), some.data))
    return Active(stop - start, n_latents, row, latent), values


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
