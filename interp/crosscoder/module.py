"""The crosscoder: weights, normalisation, encoder with its gate, decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.crosscoder import formats, gates
from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.parts import bias_after_subtraction
from interp.crosscoder.sparse import Active, weighted_rows
from interp.errors import InterpError


class Crosscoder(nn.Module):
    """n models' residuals to one sparse code and back.

    x̂_m = (x_m - mean_m) * scale_m;  f = relu(sum_m x̂_m W_enc[m] + b_enc), kept where the gate is open;
    reconstruction (f W_dec[:, m] + b_dec[m]) / scale_m + mean_m. The gate of batch_topk is open where the score
    f_j * sum_m |W_dec[j, m]| is above `threshold`, that of topk on each row's k best scores, that of jumprelu where
    f_j is above exp(log_threshold_j).

    The weights act in normalised space; public methods take and return the input's units. A new crosscoder has mean 0,
    scale 1 and threshold 0, which keeps every positive activation.
    """

    encoder: Float[Tensor, "latents models_times_d_model"]
    """W_enc in memory order: one row per latent, so that an active latent's weights are contiguous."""
    decoder: Float[Tensor, "latents models_times_d_model"]
    """W_dec in memory order, one row per latent."""
    mean: Float[Tensor, "models d_model"]
    """Subtracted from the input, in its units."""
    scale: Float[Tensor, "models d_model"]
    """Factor of the centred input; one factor per model where this project trained it."""
    threshold: Float[Tensor, ""]
    """The score that an activation must exceed at inference (batch_topk); scores are in normalised units."""
    log_threshold: Float[Tensor, " latents"]
    """Log of the activation that each latent must exceed (jumprelu)."""

    def __init__(self, config: CrosscoderConfig, seed: int = 0, *, shared: float = 1.0, transposed: bool = True):
        super().__init__()
        self.config = config
        m, d, n = config.n_models, config.d_model, config.n_latents
        start = initial_decoder(config, torch.Generator().manual_seed(seed), shared=shared)
        self.decoder = nn.Parameter(start.flatten(1))
        if not transposed:
            other = torch.Generator().manual_seed(seed + 1)
            start = initial_decoder(config.model_copy(update={"n_dedicated": 0}), other, shared=0.0)
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

        `latents` are the columns to compute, in this order; None is all. Except under topk, whose gate compares all
        latents, only these are computed; they agree with the full code up to fp32 rounding.

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

    def decode_active(self, values: Float[Tensor, " active"], active: Active) -> Float[Tensor, "batch models d_model"]:
        """`decode` of a sparse code; only the decoders of active latents are read."""
        x_hat = weighted_rows(values, active, self.decoder) + self.b_dec.flatten()
        return x_hat.view(-1, *self.b_dec.shape) / self.scale + self.mean

    def decoder_in_input_units(self) -> Float[Tensor, "latents models d_model"]:
        """W_dec / scale: one unit of f_j adds this to each model's residual.

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
        """sum_m |W_dec[j, m]| in normalised space: score / activation."""
        W_dec = self.W_dec if latents is None else self.W_dec[latents]
        return W_dec.norm(dim=2).sum(1)

    def reconstruct(self, f: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch models d_model"]:
        """f W_dec + b_dec, in normalised space."""
        return torch.addmm(self.b_dec.flatten(), f, self.decoder).view(-1, *self.b_dec.shape)

    def fold(self) -> Crosscoder:
        """The same crosscoder with mean 0 and scale 1: normalisation is taken into the weights.

        Scaling changes the decoder norms that batch_topk's scores are made of, so its gate becomes a threshold on f for
        each latent, threshold / sum_m |W_dec[j, m]|: the result is a jumprelu crosscoder with the same code.

        Raises:
            InterpError: topk, because the new norms would change the ranking within a row.
        """
        if self.config.activation == "topk":
            raise InterpError("fold: a topk crosscoder ranks scores, which folding would change; use it as it is")
        return self._folded()

    @torch.no_grad()
    def _folded(self) -> Crosscoder:
        config = self.config
        if config.activation == "batch_topk":
            config = CrosscoderConfig(**config.model_dump() | {"activation": "jumprelu", "k": None})
        folded = Crosscoder(config).to(self.mean.device)
        if config.activation == "jumprelu":
            own = self.config.activation == "jumprelu"
            log = self.log_threshold if own else (self.threshold / self.decoder_norms()).log()
            # 0 / 0 is a latent without a decoder, whose score of 0 never exceeds a threshold: never active.
            folded.log_threshold.copy_(log.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf))
        folded.W_enc.copy_(self.W_enc * self.scale[..., None])
        folded.b_enc.copy_(bias_after_subtraction(self.b_enc, folded.W_enc, self.mean))
        folded.W_dec.copy_(self.decoder_in_input_units())
        folded.b_dec.copy_(self.b_dec / self.scale + self.mean)
        return folded.requires_grad_(False)

    @classmethod
    def from_state(cls, config: CrosscoderConfig, state: Mapping[str, Tensor]) -> Crosscoder:
        """A crosscoder that holds the tensors of `state`, without a copy; its weights require no gradient."""
        with torch.device("meta"):  # no random weights are drawn only to be replaced
            crosscoder = cls(config)
        crosscoder.load_state_dict(state, assign=True)
        return crosscoder.requires_grad_(False)

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` (format 1, see `formats`) into `folder`, which is made."""
        formats.write(self.config, self.state_dict(), folder)

    def save_sae_lens(self, folder: Path | str) -> None:
        """Write `cfg.json` and `sae_weights.safetensors`, which `sae_lens.SAE.load_from_disk` opens.

        Its d_in is M * D, model after model; its encode and decode are ours, up to fp32 rounding, on rows of that
        layout in input units. Normalisation is folded in; batch_topk becomes jumprelu with one threshold per latent.

        Raises:
            InterpError: a topk crosscoder whose decoder norms differ, because SAELens ranks by activation alone.
        """
        if self.config.activation == "topk":
            check_ranking(Path(folder), "SAELens", self.decoder_norms().detach())
        folded = self._folded()
        formats.write_sae_lens(folded.config, folded.state_dict(), folder)

    @classmethod
    def load(
        cls,
        source: Path | str,
        device: torch.device | str = "cpu",
        *,
        scales: tuple[float, ...] | None = None,
    ) -> Crosscoder:
        """Read a crosscoder from a folder, a file or a hub id, in any format of `formats`.

        One that `save` wrote encodes the same to the bit. The weights require no gradient. `scales`, one factor per
        model by which the input is multiplied, must be given where the published file lacks them.

        Raises:
            InterpError: a missing or unreadable file, or missing, unknown or misshapen tensors.
        """
        return cls.from_state(*formats.read(source, scales=scales)).to(device)


def initial_decoder(
    config: CrosscoderConfig, generator: torch.Generator, *, shared: float
) -> Float[Tensor, "latents models d_model"]:
    """Random directions of norm 1 over all models together; of a share `shared` of the latents, the first ones, equal
    in each model. Dedicated latents are zero in all models but their own."""
    m, d, n = config.n_models, config.d_model, config.n_latents
    alike = round(shared * n)
    direction = torch.cat(
        [
            torch.randn(alike, 1, d, generator=generator).expand(-1, m, -1),
            torch.randn(n - alike, m, d, generator=generator),
        ]
    )
    start = direction / direction.norm(dim=2, keepdim=True) / math.sqrt(m)
    for model in range(m):
        own = config.dedicated(model)
        kept = start[own, model].clone() * math.sqrt(m)
        start[own] = 0.0
        start[own, model] = kept
    return start
