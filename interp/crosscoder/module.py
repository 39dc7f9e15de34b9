"""The crosscoder: weights, normalisation, encoder with its gate, decoder."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.formats import read, write
from interp.errors import InterpError


class Crosscoder(nn.Module):
    """n models' residuals to one sparse code and back.

    x̂_m = (x_m - mean_m) * scale_m;  f = relu(sum_m x̂_m W_enc[m] + b_enc), kept where its score
    f_j * sum_m |W_dec[j, m]| is above `threshold`;  reconstruction (f W_dec[:, m] + b_dec[m]) / scale_m + mean_m.
    The weights live in normalised space; everything that goes in or out of a public method is in the input's units.
    A new one has no statistics yet (mean 0, scale 1) and threshold 0, which keeps every positive activation.
    """

    mean: Float[Tensor, "models d_model"]
    """What is taken off the input, in its units."""
    scale: Float[Tensor, " models"]
    """What the centred input is multiplied by."""
    threshold: Float[Tensor, ""]
    """The score that an activation must exceed at inference; scores are in normalised units."""

    def __init__(self, config: CrosscoderConfig, seed: int = 0):
        super().__init__()
        self.config = config
        m, d, n = config.n_models, config.d_model, config.n_latents
        # One direction for all models, of unit norm over them together, and the encoder its transpose: a latent starts
        # shared, and every difference between the models is learned.
        direction = torch.randn(n, 1, d, generator=torch.Generator().manual_seed(seed))
        start = (direction / direction.norm(dim=2, keepdim=True) / math.sqrt(m)).repeat(1, m, 1)
        self.W_dec = nn.Parameter(start)
        self.W_enc = nn.Parameter(rearrange(start, "latent model d -> model d latent").contiguous())
        self.b_enc = nn.Parameter(torch.zeros(n))
        self.b_dec = nn.Parameter(torch.zeros(m, d))
        self.register_buffer("mean", torch.zeros(m, d))
        self.register_buffer("scale", torch.ones(m))
        self.register_buffer("threshold", torch.zeros(()))

    def encode(
        self, x: Float[Tensor, "batch models d_model"], latents: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "batch chosen"]:
        """Latent activations f of rows in input units, of any float type; zero where the gate is shut.

        `latents` names the columns to compute, in the order wanted, at their share of the cost; None is all. A column
        agrees with the full code up to fp32 rounding, since the gate knows nothing of the other latents.

        Raises:
            InterpError: rows of another shape than [batch, n_models, d_model].
        """
        f = self.pre_activations(self.normalise(x), latents).relu()
        return torch.where(f * self.decoder_norms(latents) > self.threshold, f, 0.0)

    def decode(self, f: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch models d_model"]:
        """Every model's reconstruction, in input units."""
        return self.reconstruct(f) / self.scale[:, None] + self.mean

    def decoder_in_input_units(self) -> Float[Tensor, "latents models d_model"]:
        """What one unit of f_j adds to each model's residual: W_dec / scale.

        Norms compared between models differ from those of W_dec, which the gate and specificity use, by the scales.
        """
        return self.W_dec / self.scale[:, None]

    def normalise(self, x: Float[Tensor, "batch models d_model"]) -> Float[Tensor, "batch models d_model"]:
        """(x - mean) * scale, in fp32."""
        if x.shape[1:] != self.mean.shape:  # checked, because one model's rows would broadcast to all
            raise InterpError(f"x: shape {list(x.shape)} is not [batch, {', '.join(map(str, self.mean.shape))}]")
        return (x.float() - self.mean) * self.scale[:, None]

    def pre_activations(
        self, x_normalised: Float[Tensor, "batch models d_model"], latents: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "batch chosen"]:
        """sum_m x̂_m W_enc[m] + b_enc, before relu and gate."""
        W_enc, b_enc = (self.W_enc, self.b_enc) if latents is None else (self.W_enc[:, :, latents], self.b_enc[latents])
        return torch.addmm(b_enc, x_normalised.flatten(1), W_enc.flatten(0, 1))

    def decoder_norms(self, latents: Int[Tensor, " chosen"] | None = None) -> Float[Tensor, " chosen"]:
        """sum_m |W_dec[j, m]| in normalised space: what turns an activation into its score."""
        W_dec = self.W_dec if latents is None else self.W_dec[latents]
        return W_dec.norm(dim=2).sum(1)

    def reconstruct(self, f: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch models d_model"]:
        """f W_dec + b_dec, in normalised space."""
        return torch.addmm(self.b_dec.flatten(), f, self.W_dec.flatten(1)).view(-1, *self.b_dec.shape)

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` (format 1, see `formats`) into `folder`, which is made."""
        write(Path(folder), self.config, self.state_dict())

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Crosscoder:
        """Read what `save` wrote; encode() is the same to the bit. The weights ask for no gradient.

        Raises:
            InterpError: a missing or unreadable file, or missing, unknown or misshapen tensors.
        """
        config, state = read(Path(folder))
        crosscoder = cls(config)
        crosscoder.load_state_dict(state)
        return crosscoder.requires_grad_(False).to(device)
