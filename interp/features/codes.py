"""Latent activations of a whole store, as a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csc_array, csr_array
from torch import Tensor

from interp.crosscoder import Crosscoder
from interp.crosscoder.encoder import Encoder
from interp.crosscoder.gates import above

CHUNK = 8192
DENSE = 1 << 26
"""Most numbers of a dense code at a time: 256 MB in fp32."""


def chunks(
    rows: Float[Tensor, "rows models d_model"], size: int = CHUNK
) -> Iterator[Float[Tensor, "chunk models d_model"]]:
    """The rows in fp32, at most `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size].float()


@torch.inference_mode()
def encode_sparse(cc: Crosscoder, rows: Float[Tensor, "rows models d_model"]) -> csc_array:
    """Activations [rows, latents] as a sparse matrix with fast columns. For a gate with one threshold only entries that
    may pass it are computed in full precision, where products in bfloat16 are fast (`crosscoder.encoder`)."""
    at_once = max(1, min(CHUNK, DENSE // cc.config.n_latents))
    by_threshold = cc.config.activation == "batch_topk"
    encoder, norms = Encoder(torch.float32), cc.decoder_norms()
    values, latents, per_row = [], [], []
    for chunk in chunks(rows, at_once):
        x = chunk.to(cc.mean.device)
        places, active = _above_threshold(cc, encoder, norms, x) if by_threshold else _nonzero(cc.encode(x))
        row = torch.div(places, cc.config.n_latents, rounding_mode="floor")
        values.append(active.cpu().numpy())
        latents.append((places - row * cc.config.n_latents).to(torch.int32).cpu().numpy())
        per_row.append(torch.bincount(row, minlength=len(x)).cpu().numpy())
    starts = np.concatenate([[0], np.concatenate(per_row).cumsum()])
    code = csr_array((_joined(values), _joined(latents), starts), shape=(len(rows), cc.config.n_latents))
    return code.tocsc()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; they are given up, so that they are not held twice for long."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _above_threshold(
    cc: Crosscoder, encoder: Encoder, norms: Float[Tensor, " latents"], x: Float[Tensor, "rows models d_model"]
) -> tuple[Int[Tensor, " active"], Float[Tensor, " active"]]:
    """Places in the flattened code, rising, and activations of the entries whose score is above the threshold."""
    pre = encoder(cc, cc.normalise(x).flatten(1))
    # A little lower, because bound and quotient are rounded; the scores themselves then decide.
    lower = cc.threshold * (1 - 2 * torch.finfo(pre.upper.dtype).eps) / norms.clamp_min(1e-30)
    places = above(pre.upper, lower.clamp(min=0).to(pre.upper.dtype))
    values = pre.at(places)
    kept = (values > 0) & (values * norms[places % len(norms)] > cc.threshold)
    return places[kept], values[kept]


def _nonzero(f: Float[Tensor, "rows latents"]) -> tuple[Int[Tensor, " active"], Float[Tensor, " active"]]:
    places = f.flatten().nonzero().squeeze(1)  # many times as fast as scipy's search of a dense matrix
    return places, f.flatten()[places]


def size(f: csc_array) -> tuple[int, int]:
    """(rows, latents)."""
    assert f.shape is not None  # for the type checker: a sparse array always has one
    return f.shape[0], f.shape[1]


def column(f: csc_array, latent: int) -> tuple[Int[np.ndarray, " active"], Float[np.ndarray, " active"]]:
    """(rows, values) where a latent is active."""
    start, end = f.indptr[latent], f.indptr[latent + 1]
    return f.indices[start:end], f.data[start:end]
