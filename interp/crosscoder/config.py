"""What a crosscoder is, and how it is trained. Impossible combinations are refused when a config is built."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class CrosscoderConfig(_Config):
    """The shape of a BatchTopK crosscoder."""

    n_models: int = Field(ge=1)
    """Number of models read side by side."""

    d_model: int = Field(ge=1)
    """Width of each model's residual stream, the same for all."""

    n_latents: int = Field(ge=1)
    """Size of the dictionary."""

    k: int = Field(ge=1)
    """Active latents per row, on average over a batch."""

    @model_validator(mode="after")
    def _k_fits(self) -> CrosscoderConfig:
        if self.k > self.n_latents:
            raise ValueError(f"k={self.k} is more than n_latents={self.n_latents}; lower k or widen the dictionary")
        return self


class TrainConfig(_Config):
    """How `train` goes about it."""

    steps: int = Field(default=5000, ge=1)
    """Number of optimiser updates."""

    batch_size: int = Field(default=1024, ge=1)
    """Rows per update; k * batch_size latent activations are kept in each."""

    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of Adam."""

    seed: int = Field(default=0, ge=0)
    """Fixes the initial weights, the held-out rows and the order of the others."""

    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate climbs linearly to its peak."""

    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""

    grad_clip: float = Field(default=1.0, gt=0)
    """Largest 2-norm of the gradient over all weights together; a longer one is shortened to it."""

    aux_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of AuxK, the loss that revives dead latents; 0 turns it off."""

    k_aux: int | None = Field(default=None, ge=1)
    """Dead latents per row that predict the residual error; None is d_model // 2 (Gao et al. 2024, appendix B.1)."""

    dead_after_rows: int = Field(default=100_000, ge=1)
    """A latent that has not fired on this many rows in a row is dead."""

    log_every: int = Field(default=50, ge=1)
    """Steps between two rows of metrics; the last step is always logged."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainConfig:
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction={self.warmup_fraction} and decay_fraction={self.decay_fraction} overlap;"
                " together they may be at most 1"
            )
        return self
