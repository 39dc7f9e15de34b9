"""Latent activations of a whole store, as a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csc_array, csr_array, vstack
from torch import Tensor

from interp.crosscoder import Crosscoder

CHUNK = 8192


def chunks(rows: Float[Tensor, "rows models d_model"]) -> Iterator[Float[Tensor, "chunk models d_model"]]:
    """The rows in fp32, a bounded number at a time."""
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK].float()


@torch.inference_mode()
def encode_sparse(cc: Crosscoder, rows: Float[Tensor, "rows models d_model"]) -> csc_array:
    """Activations [rows, latents] as a sparse matrix with fast columns."""
    parts = [csr_array(cc.encode(chunk.to(cc.mean.device)).cpu().numpy()) for chunk in chunks(rows)]
    return csc_array(vstack(parts))


def size(f: csc_array) -> tuple[int, int]:
    """(rows, latents)."""
    assert f.shape is not None  # for the type checker: a sparse array always has one
    return f.shape[0], f.shape[1]


def column(f: csc_array, latent: int) -> tuple[Int[np.ndarray, " active"], Float[np.ndarray, " active"]]:
    """(rows, values) where a latent is active."""
    start, end = f.indptr[latent], f.indptr[latent + 1]
    return f.indices[start:end], f.data[start:end]
