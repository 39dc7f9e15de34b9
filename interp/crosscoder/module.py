"""The crosscoder: weights, normalisation, encoder with its gate, decoder."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.crosscoder import gates
from interp.crosscoder.config import CrosscoderConfig
from interp.errors import InterpError


class Crosscoder(nn.Module):
    """n models' residuals to one sparse code and back.

    x̂_m = (x_m - mean_m) * scale_m;  f = relu(sum_m x̂_m W_enc[m] + b_enc), kept where the gate is open;
    reconstruction (f W_dec[:, m] + b_dec[m]) / scale_m + mean_m. The gate of batch_topk is open where the score
    f_j * sum_m |W_dec[j, m]| is above `threshold`, that of topk on each row's k best scores, that of jumprelu where
    f_j is above exp(log_threshold_j).

    The weights live in normalised space; everything that goes in or out of a public method is in the input's units.
    A new one has no statistics yet (mean 0, scale 1) and threshold 0, which keeps every positive activation.
    """

    encoder: Float[Tensor, "latents models_times_d_model"]
    """W_enc as it lies in memory: one row a latent, so that an active latent's weights are read in one piece."""
    decoder: Float[Tensor, "latents models_times_d_model"]
    """W_dec, likewise."""
    mean: Float[Tensor, "models d_model"]
    """What is taken off the input, in its units."""
    scale: Float[Tensor, "models d_model"]
    """What the centred input is multiplied by; one factor a model where this project trained it."""
    threshold: Float[Tensor, ""]
    """The score that an activation must exceed at inference (batch_topk); scores are in normalised units."""
    log_threshold: Float[Tensor, " latents"]
    """Log of the activation that each latent must exceed (jumprelu)."""

    def __init__(self, config: CrosscoderConfig, seed: int = 0, *, shared: bool = True, transposed: bool = True):
        super().__init__()
        self.config = config
        m, d, n = config.n_models, config.d_model, config.n_latents
        start = initial_decoder(config, torch.Generator().manual_seed(seed), shared=shared)
        self.decoder = nn.Parameter(start.flatten(1))
        if not transposed:
            other = torch.Generator().manual_seed(seed + 1)
            start = initial_decoder(config.model_copy(update={"n_dedicated": 0}), other, shared=False)
        self.encoder = nn.Parameter(start.flatten(1).clone())
        self.b_enc = nn.Parameter(torch.zeros(n))
        self.b_dec = nn.Parameter(torch.zeros(m, d))
        if config.activation == "jumprelu":
            self.log_threshold = nn.Parameter(torch.full((n,), math.log(0.05)))
        self.register_buffer("mean", torch.zeros(m, d))
        self.register_buffer("scale", torch.ones(m, d))
        self.register_buffer("threshold", torch.zeros(()))

    @property
    def W_enc(self) -> Float[Tensor, "models d_model latents"]:  # noqa: N802
        """A view of `encoder`."""
        return rearrange(self.encoder, "latent (model d) -> model d latent", model=self.config.n_models)

    @property
    def W_dec(self) -> Float[Tensor, "latents models d_model"]:  # noqa: N802
        """A view of `decoder`."""
        return self.decoder.view(-1, self.config.n_models, self.config.d_model)

    def encode(
        self, x: Float[Tensor, "batch models d_model"], latents: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "batch chosen"]:
        """Latent activations f of rows in input units, of any float type; zero where the gate is shut.

        `latents` names the columns to compute, in the order wanted; None is all. Where the gate knows nothing of the
        other latents (all but topk) they cost their share only, and agree with the full code up to fp32 rounding.

        Raises:
            InterpError: rows of another shape than [batch, n_models, d_model].
        """
        if self.config.activation == "topk" and latents is not None:
            return self.encode(x)[:, latents]
        f = self.pre_activations(self.normalise(x), latents).relu()
        match self.config.activation:
            case "batch_topk":
                return torch.where(f * self.decoder_norms(latents) > self.threshold, f, 0.0)
            case "topk":
                kept = torch.zeros_like(f, dtype=torch.bool).flatten()
                kept[gates.topk(f, self.decoder_norms(), self.config.k or 0)] = True
                return torch.where(kept.view_as(f), f, 0.0)
            case "jumprelu":
                log = self.log_threshold if latents is None else self.log_threshold[latents]
                return torch.where(f > log.exp(), f, 0.0)
            case "relu":
                return f

    def decode(self, f: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch models d_model"]:
        """Every model's reconstruction, in input units."""
        return self.reconstruct(f) / self.scale + self.mean

    def decoder_in_input_units(self) -> Float[Tensor, "latents models d_model"]:
        """What one unit of f_j adds to each model's residual: W_dec / scale.

        Norms compared between models differ from those of W_dec, which the gate and specificity use, by the scales.
        """
        return self.W_dec / self.scale

    def normalise(self, x: Float[Tensor, "batch models d_model"]) -> Float[Tensor, "batch models d_model"]:
        """(x - mean) * scale, in fp32."""
        if x.shape[1:] != self.mean.shape:  # checked, because one model's rows would broadcast to all
            raise InterpError(f"x: shape {list(x.shape)} is not [batch, {', '.join(map(str, self.mean.shape))}]")
        return (x.float() - self.mean) * self.scale

    def pre_activations(
        self, x_normalised: Float[Tensor, "batch models d_model"], latents: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "batch chosen"]:
        """sum_m x̂_m W_enc[m] + b_enc, before relu and gate."""
        encoder, b_enc = (self.encoder, self.b_enc) if latents is None else (self.encoder[latents], self.b_enc[latents])
        return torch.addmm(b_enc, x_normalised.flatten(1), encoder.T)

    def decoder_norms(self, latents: Int[Tensor, " chosen"] | None = None) -> Float[Tensor, " chosen"]:
        """sum_m |W_dec[j, m]| in normalised space: what turns an activation into its score."""
        W_dec = self.W_dec if latents is None else self.W_dec[latents]
        return W_dec.norm(dim=2).sum(1)

    def reconstruct(self, f: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch models d_model"]:
        """f W_dec + b_dec, in normalised space."""
        return torch.addmm(self.b_dec.flatten(), f, self.decoder).view(-1, *self.b_dec.shape)

    @torch.no_grad()
    def fold(self) -> Crosscoder:
        """The same crosscoder with mean 0 and scale 1: normalisation is taken into the weights.

        Scaling changes the decoder norms that batch_topk's scores are made of, so its gate becomes each latent's own
        threshold on f, threshold / sum_m |W_dec[j, m]|: the result is a jumprelu crosscoder with the same code.

        Raises:
            InterpError: topk, whose choice within a row the new norms would change.
        """
        config = self.config
        if config.activation == "topk":
            raise InterpError("fold: a topk crosscoder ranks scores, which folding would change; use it as it is")
        if config.activation == "batch_topk":
            config = CrosscoderConfig(**config.model_dump() | {"activation": "jumprelu", "k": None})
        folded = Crosscoder(config).to(self.mean.device)
        if config.activation == "jumprelu":
            own = self.config.activation == "jumprelu"
            log = self.log_threshold if own else (self.threshold / self.decoder_norms()).log()
            folded.log_threshold.copy_(
                log.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
            )  # no decoder, no score: never open
        folded.W_enc.copy_(self.W_enc * self.scale[..., None])
        folded.b_enc.copy_(self.b_enc - torch.einsum("md,mdl->l", self.mean, folded.W_enc))
        folded.W_dec.copy_(self.decoder_in_input_units())
        folded.b_dec.copy_(self.b_dec / self.scale + self.mean)
        return folded.requires_grad_(False)

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` (format 1, see `formats`) into `folder`, which is made."""
        from interp.crosscoder.formats import write

        write(self, Path(folder))

    @classmethod
    def load(
        cls,
        source: Path | str,
        device: torch.device | str = "cpu",
        *,
        scales: tuple[float, ...] | None = None,
    ) -> Crosscoder:
        """Read a crosscoder from a folder, a file or a hub id, in any format of `formats`.

        What `save` wrote encodes the same to the bit. The weights ask for no gradient. `scales`, one factor a model
        that the input is multiplied by, must be given where the published file lacks them.

        Raises:
            InterpError: a missing or unreadable file, or missing, unknown or misshapen tensors.
        """
        from interp.crosscoder.formats import read

        return read(source, scales=scales).requires_grad_(False).to(device)


def initial_decoder(
    config: CrosscoderConfig, generator: torch.Generator, *, shared: bool
) -> Float[Tensor, "latents models d_model"]:
    """Random directions of norm 1 over all models together, equal in each model where `shared`; those of dedicated
    latents are zero but in their own model."""
    m, d, n = config.n_models, config.d_model, config.n_latents
    direction = torch.randn(n, 1 if shared else m, d, generator=generator)
    start = (direction / direction.norm(dim=2, keepdim=True)).expand(n, m, d) / math.sqrt(m)
    start = start.clone()
    for model in range(m):
        own = config.dedicated(model)
        kept = start[own, model].clone() * math.sqrt(m)
        start[own] = 0.0
        start[own, model] = kept
    return start
