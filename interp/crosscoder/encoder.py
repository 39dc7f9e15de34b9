"""The encoder's product in training: the only dense operation of an update.

BatchTopK needs the values of a few entries, and for all others only that they are lower. So where products in bfloat16
are fast, the whole product is computed in bfloat16 as an upper bound of every pre-activation (screening), and the few
entries whose bound reaches the batch's best are then computed in float32. Choice and values are those of float32.

The bound: let x', w' be x, w rounded to bfloat16. Then x.w = x'.w' + x.(w - w') + (x - x').w', and by Cauchy-Schwarz
x.w <= x'.w' + |x| |w - w'| + |x - x'| |w'|. Both terms are a norm of the row times a norm of the
latent: two more columns of the product, and the bias is a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.sparse import Active, sampled_product

SCREENED_FROM = 1 << 32
"""Multiplications in a product from which on screening is faster; below, choosing twice costs more than it saves."""

_UP = 1 + torch.finfo(torch.bfloat16).eps
_CHUNK = 256  # rows rounded at a time: still in the cache when their norm is computed


@dataclass(frozen=True)
class Dense:
    """All pre-activations, computed."""

    upper: Float[Tensor, "rows latents"]

    def near(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        return self.at(places)

    def at(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        return self.upper.flatten()[places].to(torch.promote_types(self.upper.dtype, torch.float32))

    def of(self, latents: Int[Tensor, " chosen"]) -> Float[Tensor, "rows chosen"]:
        return self.upper.index_select(1, latents)


@dataclass(frozen=True)
class Screened:
    """Upper bounds of all pre-activations; exact values are computed on request."""

    upper: Float[Tensor, "rows latents"]
    x: Float[Tensor, "rows width"]
    crosscoder: Crosscoder
    of_row: Float[Tensor, "rows 3"]
    of_latent: Float[Tensor, "latents 3"]
    """of_row @ of_latent.T is the part of the bound above x'.w'."""

    @torch.no_grad()
    def near(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        row, latent = self._split(places)
        above = (self.of_row[row] * self.of_latent[latent]).sum(1)
        return self.upper.flatten()[places].float() - above + self.crosscoder.b_enc[latent]

    @torch.no_grad()
    def at(self, places: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        active = Active.at(places, *self.upper.shape)
        return sampled_product(self.x, self.crosscoder.encoder, active) + self.crosscoder.b_enc[active.latent]

    @torch.no_grad()
    def of(self, latents: Int[Tensor, " chosen"]) -> Float[Tensor, "rows chosen"]:
        encoder, b_enc = (
            self.crosscoder.encoder.index_select(0, latents),
            self.crosscoder.b_enc.index_select(0, latents),
        )
        return torch.addmm(b_enc, self.x, encoder.T)

    def _split(self, places: Tensor) -> tuple[Tensor, Tensor]:
        row = torch.div(places, self.upper.shape[1], rounding_mode="floor")
        return row, places - row * self.upper.shape[1]


class Encoder:
    """x W_enc + b_enc in a given precision.

    The result is written to the same memory at every step, since new memory of this size costs as much as filling it.
    """

    def __init__(self, dtype: torch.dtype):
        self._dtype = dtype
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, crosscoder: Crosscoder, x: Float[Tensor, "batch models_times_d_model"]) -> Dense | Screened:
        """Pre-activations of normalised rows; overwritten by the next call."""
        if self._dtype == torch.float32 and is_screened(crosscoder.config, len(x), x.device):
            return self._screened(crosscoder, x)
        weight, out = crosscoder.encoder, self._buffer("out", (len(x), crosscoder.config.n_latents), x.device)
        if weight.dtype != self._dtype:
            weight = self._buffer("weight", weight.shape, x.device).copy_(weight)
        return Dense(torch.addmm(crosscoder.b_enc.to(self._dtype), x.to(self._dtype), weight.T, out=out))

    def _screened(self, crosscoder: Crosscoder, x: Tensor) -> Screened:
        width, n_latents = x.shape[1], crosscoder.config.n_latents
        rows = self._buffer("rows", (len(x), width + 3), x.device, torch.bfloat16)
        latents = self._buffer("latents", (n_latents, width + 3), x.device, torch.bfloat16)
        x_norm, _, x_lost = _rounded(x, rows)
        _, w_norm, w_lost = _rounded(crosscoder.encoder, latents)
        # Rounding errors of float32 sums, here and where the chosen entries are computed.
        w_lost += 2 * width * torch.finfo(torch.float32).eps * w_norm
        b_enc = crosscoder.b_enc
        rows[:, width:] = torch.stack([x_norm * _UP, x_lost * _UP, torch.ones_like(x_norm)], 1)
        latents[:, width:] = torch.stack([w_lost * _UP, w_norm * _UP, b_enc + b_enc.abs() * (_UP - 1)], 1)
        out = self._buffer("out", (len(x), n_latents), x.device, torch.bfloat16)
        torch.mm(rows, latents.T, out=out)
        return Screened(out, x, crosscoder, rows[:, width:].float(), latents[:, width:].float())

    def _buffer(
        self, name: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype | None = None
    ) -> Tensor:
        found = self._kept.get(name)
        if found is None or found.shape != shape or found.device != device:
            found = self._kept[name] = torch.empty(shape, dtype=dtype or self._dtype, device=device)
        return found


def is_screened(config: CrosscoderConfig, n_rows: int, device: torch.device) -> bool:
    """Whether screening is used: for a gate that ranks the batch, a large product, and fast bfloat16."""
    large = n_rows * config.n_models * config.d_model * config.n_latents >= SCREENED_FROM
    return config.activation == "batch_topk" and large and _multiplies_bfloat16(device)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a CPU has instructions for bfloat16 products. False on other devices, where this was not measured."""
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def _rounded(x: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round rows into the first columns of `out`; norms of the rows, of the rounded rows, and of the differences."""
    norm, rounded, lost = x.new_empty(3, len(x)).unbind()
    for start in range(0, len(x), _CHUNK):
        some = slice(start, start + _CHUNK)
        torch.linalg.vector_norm(x[some], dim=1, out=norm[some])
        there = out[some, : x.shape[1]].copy_(x[some]).float()
        torch.linalg.vector_norm(there, dim=1, out=rounded[some])
        torch.linalg.vector_norm(there.sub_(x[some]), dim=1, out=lost[some])
    return norm, rounded, lost
