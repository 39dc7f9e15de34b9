"""The shape of a crosscoder and the recipe of its training; impossible combinations are refused when a config is
built. Imports no torch, so that a study's config can embed these models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Activation = Literal["batch_topk", "topk", "jumprelu", "relu"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class DictionaryConfig(_Config):
    """The size of a dictionary and the gate of its code, whatever models it is trained on."""

    n_latents: int = Field(ge=1)
    """Number of latents in the dictionary."""

    k: int | None = Field(default=None, ge=1)
    """Active latents per row: on average over a batch (batch_topk), or in every row (topk); none for other gates."""

    activation: Activation = "batch_topk"
    """Gate of the code: the batch's best scores, each row's best, those above a threshold per latent, all positive."""

    n_dedicated: int = Field(default=0, ge=0)
    """Latents reserved for each model, whose decoders for all other models are exactly zero."""

    @model_validator(mode="after")
    def _k_fits(self) -> DictionaryConfig:
        if self.activation in ("batch_topk", "topk"):
            if self.k is None:
                raise ValueError(f"activation={self.activation} needs k, the number of active latents per row")
            if self.k > self.n_latents:
                raise ValueError(f"k={self.k} is more than n_latents={self.n_latents}; lower k or widen the dictionary")
        elif self.k is not None:
            raise ValueError(f"k={self.k} does nothing for activation={self.activation}; leave it out")
        return self

    def between(self, n_models: int, d_model: int) -> CrosscoderConfig:
        """The crosscoder of this dictionary between `n_models` models of width `d_model`.

        Raises:
            ValueError: more latents are dedicated to the models than there are.
        """
        own = {name: getattr(self, name) for name in DictionaryConfig.model_fields}
        return CrosscoderConfig(**own, n_models=n_models, d_model=d_model)


class CrosscoderConfig(DictionaryConfig):
    """The shape of a crosscoder and the gate of its code."""

    n_models: int = Field(ge=1)
    """Number of models read side by side."""

    d_model: int = Field(ge=1)
    """Width of each model's residual stream, the same for all."""

    @model_validator(mode="after")
    def _dedicated_fit(self) -> CrosscoderConfig:
        if self.n_dedicated * self.n_models > self.n_latents:
            raise ValueError(
                f"n_dedicated={self.n_dedicated} for {self.n_models} models is more than n_latents={self.n_latents}"
            )
        return self

    def dedicated(self, model: int) -> slice:
        """The latents dedicated to a model; the models' shares are the last of the dictionary, in model order."""
        start = self.n_latents - (self.n_models - model) * self.n_dedicated
        return slice(start, start + self.n_dedicated)


class TrainConfig(_Config):
    """The recipe of training."""

    steps: int = Field(default=5000, ge=1)
    """Number of optimiser updates."""

    batch_size: int = Field(default=1024, ge=1)
    """Rows per update; k * batch_size latent activations are kept in each."""

    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of Adam."""

    seed: int = Field(default=0, ge=0)
    """Fixes the initial weights, and the order of the rows unless `data_seed` does."""

    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly to its peak."""

    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""

    grad_clip: float = Field(default=1.0, gt=0)
    """Largest 2-norm of the gradient over all weights together; a longer gradient is scaled down to it."""

    shared_init: float = Field(default=1.0, ge=0, le=1)
    """Share of the latents that start with one decoder direction in all models, so that each difference is learned; the
    others start with a direction of their own in each (docs/engine.md compares them)."""

    transposed_init: bool = True
    """Start the encoder as the decoder's transpose; otherwise at random with the same norms."""

    freeze_decoder: bool = False
    """Leave the decoders as they were drawn and train the rest: the null of a dictionary, which shows what random
    directions would find."""

    k_start: int | None = Field(default=None, ge=1)
    """Active latents per row at the first step, annealed linearly to k; null starts at k."""

    k_anneal_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps over which k_start is annealed to k."""

    sparsity: float = Field(default=0.0, ge=0)
    """Weight of the sparsity penalty: L1 of the scores (relu), or the number of active latents per row (jumprelu)."""

    sparsity_warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the sparsity penalty rises linearly to its weight."""

    bandwidth: float = Field(default=1.0, gt=0)
    """Width of the window around a threshold in which the threshold receives gradient (jumprelu), in units of
    pre-activation, whose standard deviation is about 1 at the start."""

    aux_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of AuxK, the loss that revives dead latents; 0 turns it off."""

    k_aux: int | None = Field(default=None, ge=1)
    """Dead latents per row that predict the residual error; null is d_model // 2 (Gao et al. 2024, appendix B.1)."""

    dead_after_rows: int = Field(default=100_000, ge=1)
    """A latent that has not fired on this many consecutive rows is dead."""

    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's product during training; weights, moments and all other products are in float32."""

    outlier_ratio: float = Field(default=100.0, gt=1)
    """Rows whose norm exceeds this multiple of the median norm in any model are left out and counted."""

    shuffle_rows: int = Field(default=1 << 18, ge=1)
    """Rows that are shuffled together: a larger store is read in groups of whole shards of at least this many rows, a
    stream through a buffer of this many."""

    data_seed: int | None = Field(default=None, ge=0)
    """Fixes which rows are held out and the order of the others; null is `seed`."""

    log_every: int = Field(default=50, ge=1)
    """Steps between two rows of metrics; the last step is always logged."""

    @property
    def data_order_seed(self) -> int:
        """Seed of the held-out split and of the order of the rows."""
        return self.seed if self.data_seed is None else self.data_seed

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainConfig:
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction={self.warmup_fraction} and decay_fraction={self.decay_fraction} overlap;"
                " together they may be at most 1"
            )
        return self


def check_pair(config: CrosscoderConfig, train_config: TrainConfig) -> None:
    """Refuse training settings that have no effect on this crosscoder.

    Raises:
        ValueError: k_start without k, a penalty where k decides, or none where nothing else does.
    """
    if config.k is None and train_config.k_start is not None:
        raise ValueError(f"k_start={train_config.k_start} does nothing for activation={config.activation}")
    if config.k is not None and train_config.sparsity:
        raise ValueError(f"sparsity={train_config.sparsity} does nothing for activation={config.activation}; k decides")
    if config.k is None and not train_config.sparsity:
        raise ValueError(f"activation={config.activation} needs a sparsity penalty above 0")
