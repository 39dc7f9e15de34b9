"""Synthetic residuals made of known latents, and scores of how well a dictionary recovers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from interp.crosscoder.rows import seeded

Kind = Literal["shared", "exclusive", "rescaled"]
KINDS: tuple[Kind, ...] = ("shared", "exclusive", "rescaled")
NONE = -1  # no model, or no planted latent
RECOVERED = 0.9  # cosine above which a learned latent counts as a planted one
_CHUNK = 1 << 14


class PlantedConfig(BaseModel):
    """Recipe of the residuals. Latents are active independently of one another, and in all their models at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    n_models: int = Field(default=3, ge=2)
    d_model: int = Field(default=64, ge=3)
    n_shared: int = Field(default=160, ge=0)
    """Latents of all models, with a direction of its own in each."""
    n_exclusive: int = Field(default=16, ge=0)
    """Latents of one model alone, for each model."""
    n_rescaled: int = Field(default=48, ge=0)
    """Latents with one direction in all models and a strength that differs."""
    correlation: float = Field(default=0.8, ge=0, le=1)
    """Cosine between any two models' directions of a shared latent; exact."""
    factors: tuple[float, ...] = (1.0, 0.5, 0.25)
    """Strengths of a rescaled latent, one per model; the models take turns at the first."""
    frequencies: tuple[float, float] = (1e-3, 1e-1)
    """Share of the rows on which a latent is active: log-uniform between these."""
    spread: float = Field(default=0.5, ge=0)
    """Standard deviation of the log of an activation; its median is 1."""
    noise: float = Field(default=0.05, ge=0)
    """Standard deviation of every coordinate's own Gaussian noise; a direction has norm 1."""
    seed: int = Field(default=0, ge=0)
    """Fixes directions and frequencies."""

    @model_validator(mode="after")
    def _fits(self) -> PlantedConfig:
        if len(self.factors) != self.n_models or min(self.factors) <= 0:
            raise ValueError(f"factors={self.factors}: give one above 0 for each of the {self.n_models} models")
        if not 0 < self.frequencies[0] <= self.frequencies[1] <= 1:
            raise ValueError(f"frequencies={self.frequencies}: give the lowest and the highest, above 0 and at most 1")
        if self.d_model <= self.n_models:
            raise ValueError(f"d_model={self.d_model} must be above n_models={self.n_models}")
        return self


@dataclass(frozen=True)
class Planted:
    """Latents laid out by kind: shared; exclusive to model 0, to model 1, ...; rescaled."""

    config: PlantedConfig
    directions: Float[Tensor, "latents models d_model"]
    """Added to each model by one unit of a latent; norm 1, times its factor where rescaled; zero where absent."""
    kind: tuple[Kind, ...]
    owner: Int[Tensor, " latents"]
    """The model an exclusive latent belongs to; NONE for the others."""
    frequency: Float[Tensor, " latents"]
    """Share of the rows on which the latent is active."""

    def rows(self, n: int, seed: int) -> Float[Tensor, "n models d_model"]:
        """n >= 1 independent rows in fp32, not centred; equal arguments give equal rows."""
        generator = seeded("planted rows", self.config.seed, seed)
        return torch.cat([self._chunk(min(_CHUNK, n - start), generator) for start in range(0, n, _CHUNK)])

    def _chunk(self, n: int, generator: torch.Generator) -> Float[Tensor, "n models d_model"]:
        on = torch.rand(n, len(self.frequency), generator=generator) < self.frequency
        f = on * (self.config.spread * torch.randn(on.shape, generator=generator)).exp()
        x = (f @ self.directions.flatten(1)).view(n, *self.directions.shape[1:])
        return x + self.config.noise * torch.randn(x.shape, generator=generator)


def plant(config: PlantedConfig) -> Planted:
    """Draw directions and frequencies."""
    generator = seeded("planted", config.seed)
    m, d, n_alone = config.n_models, config.d_model, config.n_models * config.n_exclusive
    owner = torch.full((config.n_shared + n_alone + config.n_rescaled,), NONE)
    alone = torch.arange(m).repeat_interleave(config.n_exclusive)
    owner[config.n_shared : config.n_shared + n_alone] = alone
    factors = torch.tensor(config.factors)[(torch.arange(m) - torch.arange(config.n_rescaled)[:, None]) % m]
    strengths = torch.cat([one_hot(alone, m).float(), factors])
    single = normalize(torch.randn(len(strengths), 1, d, generator=generator), dim=2) * strengths[..., None]
    low, high = config.frequencies
    frequency = low * (high / low) ** torch.rand(len(owner), generator=generator)
    directions = torch.cat([_correlated(config, generator), single])
    counts = zip(KINDS, (config.n_shared, n_alone, config.n_rescaled), strict=True)
    return Planted(config, directions, tuple(kind for kind, n in counts for _ in range(n)), owner, frequency)


def _correlated(config: PlantedConfig, generator: torch.Generator) -> Float[Tensor, "shared models d_model"]:
    """√c u + √(1-c) w_m with u and all w_m orthonormal: norm 1, and cosine c between any two models."""
    random = torch.randn(config.n_shared, config.d_model, config.n_models + 1, generator=generator)
    basis = torch.linalg.qr(random).Q.transpose(1, 2)
    return config.correlation**0.5 * basis[:, :1] + (1 - config.correlation) ** 0.5 * basis[:, 1:]


@runtime_checkable
class Truth(Protocol):
    """Latents that are known, whoever made them."""

    @property
    def directions(self) -> Float[Tensor, "latents models d_model"]:
        """Added to each model by one unit of a latent; zero where it is absent."""
        ...

    @property
    def owner(self) -> Int[Tensor, " latents"]:
        """The one model that a latent belongs to, or NONE."""
        ...


class Matched(NamedTuple):
    """A learned dictionary matched with the planted one, by the cosine of decoders concatenated over the models."""

    best: Float[Tensor, " planted"]
    """Cosine of each planted latent with the nearest learned one."""
    truth: Int[Tensor, " learned"]
    """The planted latent matched with each learned one; NONE where no cosine is above RECOVERED."""

    @property
    def recall(self) -> float:
        """Share of the planted latents with a cosine above RECOVERED, in [0, 1]; 1 is best."""
        return float((self.best > RECOVERED).double().mean())


def match(decoder: Float[Tensor, "learned models d_model"], planted: Truth) -> Matched:
    """Match decoders in input units (`Crosscoder.decoder_in_input_units`), of any norm and order, with the truth. A
    negative multiple is no match. Two learned latents may be matched with one planted latent."""
    cosine = normalize(decoder.flatten(1), dim=1) @ normalize(planted.directions.flatten(1), dim=1).T
    nearest = cosine.max(1)
    return Matched(cosine.amax(0), torch.where(nearest.values > RECOVERED, nearest.indices, NONE))


class ClaimScore(NamedTuple):
    """Precision and recall of claims "this latent is exclusive to model m"."""

    n_claims: int
    precision: float
    """Share of the claims that are true, in [0, 1]; NaN where nothing is claimed."""
    recall: float
    """Share of the planted exclusive latents that a true claim names, in [0, 1]; NaN where none is planted."""


def score_claims(claimed: Int[Tensor, " learned"], matched: Matched, planted: Truth) -> ClaimScore:
    """`claimed` is the model to which each learned latent is claimed to be exclusive, or NONE. A claim is true where
    the latent matches a planted one of this model alone; a claim about a latent without a match is false."""
    owner = torch.where(matched.truth == NONE, NONE, planted.owner[matched.truth.clamp(min=0)])
    made = claimed != NONE
    true = made & (claimed == owner)
    n, n_planted, named = int(made.sum()), int((planted.owner != NONE).sum()), len(matched.truth[true].unique())
    nan = float("nan")
    return ClaimScore(n, int(true.sum()) / n if n else nan, named / n_planted if n_planted else nan)
