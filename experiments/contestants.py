"""Trainers that are compared: this engine, three from PyPI, and the encoder's product alone.

A crosscoder of concatenated models is a dictionary of the concatenation, so every trainer gets the same rows
[batch, models * d_model] and trains by its own trainer's update. `Recipe` holds what is set for all of them; what a
trainer does in its own way is listed in `terms.py`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.rows import Normaliser, fit_normaliser

NEVER = sys.maxsize // 2
"""More rows than any run has: a threshold that turns AuxK off."""


@dataclass(frozen=True)
class Shape:
    """The dictionary and its training, but for the recipe."""

    n_models: int
    d_model: int
    n_latents: int
    k: int
    batch: int
    steps: int
    device: str = "cpu"

    @property
    def width(self) -> int:
        """Dimensions of the concatenation."""
        return self.n_models * self.d_model


@dataclass(frozen=True)
class Recipe:
    """Settings of training that every trainer has, by an option of its own or from outside."""

    lr: float
    """Learning rate of Adam, constant after the warm-up."""
    warmup: int
    """Updates of linear warm-up."""
    seed: int = 0
    """Seed of the initial weights."""
    dead_after: int | None = None
    """Rows without firing after which AuxK counts a latent as dead; None turns AuxK off."""
    k_start: int | None = None
    """Active latents per row at the first update; None keeps k fixed."""
    k_steps: int = 0
    """Updates over which k_start goes linearly to k."""
    k_aux: int | None = None
    """Dead latents per row that AuxK uses in this engine; None is its default, d_model // 2. The peers have width // 2,
    which no option of theirs changes."""
    shared_init: float = 1.0
    """This engine's share of latents that start with one direction in all models; the peers know of no models."""
    aux_weight: float | None = None
    """Weight of AuxK's loss; None is the trainer's own (`terms.py`). `dead_after` turns AuxK on, not this."""

    def weighted(self, option: str) -> dict[str, Any]:
        """The weight of AuxK under the name that a trainer's own option has; nothing where the weight is its own."""
        return {} if self.aux_weight is None else {option: self.aux_weight}


class Counter(NamedTuple):
    """A trainer's own count, per latent, since the latent last fired."""

    since_fired: Tensor
    """[latents], in rows or in batches; writing to it changes the trainer."""
    dead_from: float
    """Count at which the trainer takes a latent for dead."""

    def dead_share(self) -> float:
        """Share of the latents that are dead, in [0, 1]."""
        return float((self.since_fired >= self.dead_from).double().mean())


class Contestant(Protocol):
    """A trainer with its initial weights."""

    def update(self, x: Float[Tensor, "batch width"]) -> None:
        """Make one update."""
        ...

    def code(self, x: Float[Tensor, "batch width"]) -> tuple[Tensor, Tensor]:
        """(reconstruction, active latents of each row) under the gate of training."""
        ...

    def latents(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch latents"]:
        """Activations of each row under the gate of training."""
        ...

    def encoder(self) -> Float[Tensor, "latents width"]:
        """Encoder weights, as a view of the trainer's own."""
        ...

    def decoder(self) -> Float[Tensor, "latents width"]:
        """Decoder vectors."""
        ...

    def counter(self) -> Counter:
        """The count from which the trainer derives its dead latents."""
        ...


def annealed_k(step: int, shape: Shape, recipe: Recipe) -> int:
    """Active latents per row at `step` (from 0): k_start to k, linearly over k_steps (sparsify's `get_current_k`)."""
    if recipe.k_start is None or step >= recipe.k_steps:
        return shape.k
    share = step / recipe.k_steps
    return round(recipe.k_start * (1 - share) + shape.k * share)


class Engine:
    """This engine; `frozen`: with decoders that stay as they were drawn."""

    def __init__(self, shape: Shape, recipe: Recipe, dtype: str, *, frozen: bool = False):
        from interp.crosscoder import CrosscoderConfig, TrainConfig
        from interp.crosscoder.trainer import Trainer

        config = CrosscoderConfig(n_models=shape.n_models, d_model=shape.d_model, n_latents=shape.n_latents, k=shape.k)
        settings = {
            "steps": shape.steps,
            "batch_size": shape.batch,
            "lr": recipe.lr,
            "seed": recipe.seed,
            "warmup_fraction": recipe.warmup / shape.steps,
            "decay_fraction": 0.0,
            "encoder_dtype": dtype,
            "freeze_decoder": frozen,
            "k_aux": recipe.k_aux,
            "shared_init": recipe.shared_init,
            "log_every": shape.steps,
            **recipe.weighted("aux_coefficient"),
        }
        if recipe.dead_after is None:
            settings["aux_coefficient"] = 0.0
        self._dead_from = recipe.dead_after or NEVER
        settings["dead_after_rows"] = self._dead_from
        if recipe.k_start is not None:
            settings |= {"k_start": recipe.k_start, "k_anneal_fraction": recipe.k_steps / shape.steps}
        nothing = Normaliser(torch.zeros(shape.n_models, shape.d_model), torch.ones(shape.n_models))
        self._trainer = Trainer(config, TrainConfig.model_validate(settings), nothing, shape.device)
        self._shape = shape

    def update(self, x: Tensor) -> None:
        self._trainer.update(x.view(len(x), self._shape.n_models, self._shape.d_model))

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        done = self._forward(x)
        return done.x_hat, torch.bincount(done.active.row, minlength=len(x))

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        done = self._forward(x)
        f = x.new_zeros(len(x), self._shape.n_latents)
        f[done.active.row, done.active.latent] = done.values
        return f

    def _forward(self, x: Tensor) -> Any:
        from interp.crosscoder.encoder import Encoder
        from interp.crosscoder.loss import forward

        crosscoder = self._trainer.crosscoder
        return forward(crosscoder, x, Encoder(torch.float32)(crosscoder, x), self._shape.k, 1.0)

    def encoder(self) -> Tensor:
        return self._trainer.crosscoder.encoder.detach()

    def decoder(self) -> Tensor:
        return self._trainer.crosscoder.decoder.detach()

    def counter(self) -> Counter:
        return Counter(self._trainer._silent, self._dead_from)


class DictionaryLearning:
    """dictionary-learning's BatchTopKTrainer, under autocast as its `trainSAE` runs it (there on CUDA alone)."""

    def __init__(self, shape: Shape, recipe: Recipe, *, autocast: bool = False):
        from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer  # type: ignore[import-not-found]

        self._trainer = BatchTopKTrainer(
            steps=shape.steps,
            activation_dim=shape.width,
            dict_size=shape.n_latents,
            k=shape.k,
            layer=0,
            lm_name="",
            lr=recipe.lr,
            warmup_steps=recipe.warmup,
            seed=recipe.seed,
            device=shape.device,
            **recipe.weighted("auxk_alpha"),
        )
        self._trainer.dead_feature_threshold = recipe.dead_after or NEVER
        self._shape, self._recipe, self._autocast, self._step = shape, recipe, autocast, 0

    def update(self, x: Tensor) -> None:
        self._trainer.ae.k.fill_(annealed_k(self._step, self._shape, self._recipe))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._autocast):
            self._trainer.update(self._step, x)
        self._step += 1

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.latents(x)
        return self._trainer.ae.decode(f), (f > 0).sum(1)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        return self._trainer.ae.encode(x, use_threshold=False)

    def encoder(self) -> Tensor:
        return self._trainer.ae.encoder.weight.detach()

    def decoder(self) -> Tensor:
        return self._trainer.ae.decoder.weight.detach().T

    def counter(self) -> Counter:
        return Counter(self._trainer.num_tokens_since_fired, self._trainer.dead_feature_threshold)


class SAELens:
    """sae-lens' SAETrainer on a BatchTopKTrainingSAE."""

    def __init__(self, shape: Shape, recipe: Recipe, *, autocast: bool = False):
        from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(recipe.seed)
        weight, sizes = recipe.weighted("aux_loss_coefficient"), {"d_in": shape.width, "d_sae": shape.n_latents}
        made = BatchTopKTrainingSAEConfig(**sizes, k=shape.k, device=shape.device, **weight)
        config = SAETrainerConfig(
            total_training_samples=shape.steps * shape.batch,
            train_batch_size_samples=shape.batch,
            lr=recipe.lr,
            lr_end=recipe.lr,
            lr_warm_up_steps=recipe.warmup,
            dead_feature_window=(recipe.dead_after or NEVER) // shape.batch,
            autocast=autocast,
            device=shape.device,
        )
        self._trainer: Any = SAETrainer(config, BatchTopKTrainingSAE(made), data_provider=iter(()))
        self._shape, self._recipe = shape, recipe

    def update(self, x: Tensor) -> None:
        self._trainer.sae.activation_fn.k = annealed_k(self._trainer.n_training_steps, self._shape, self._recipe)
        self._trainer.step(x)
        self._trainer.n_training_steps += 1

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.latents(x)
        return self._trainer.sae.decode(f), (f > 0).sum(1)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        return self._trainer.sae.encode(x)

    def encoder(self) -> Tensor:
        return self._trainer.sae.W_enc.detach().T

    def decoder(self) -> Tensor:
        return self._trainer.sae.W_dec.detach()

    def counter(self) -> Counter:
        return Counter(self._trainer.n_forward_passes_since_fired, self._trainer.cfg.dead_feature_window + 1)


class Sparsify:
    """eai-sparsify's SparseCoder with the update of its trainer, which needs a language model and is repeated here."""

    def __init__(self, shape: Shape, recipe: Recipe, *, autocast: bool = False):
        from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]

        torch.manual_seed(recipe.seed)
        self._coder = SparseCoder(
            shape.width, SparseCoderConfig(num_latents=shape.n_latents, k=shape.k), device=shape.device
        )
        self._adam = torch.optim.Adam(self._coder.parameters(), lr=recipe.lr)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adam, lambda step: min(1.0, (step + 1) / max(1, recipe.warmup))
        )
        self._since_fired = torch.zeros(shape.n_latents, dtype=torch.long, device=shape.device)
        self._aux_weight = 1 / 32 if recipe.aux_weight is None else recipe.aux_weight
        self._shape, self._recipe, self._autocast, self._step = shape, recipe, autocast, 0

    def update(self, x: Tensor) -> None:
        if self._step == 0:
            self._coder.b_dec.data = x.mean(0).to(self._coder.b_dec.dtype)
        self._coder.cfg.k = annealed_k(self._step, self._shape, self._recipe)
        self._coder.set_decoder_norm_to_unit_norm()
        dead = None if self._recipe.dead_after is None else self._since_fired > self._recipe.dead_after
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._autocast):
            out = self._coder(x, dead_mask=dead)
        (out.fvu + self._aux_weight * out.auxk_loss).backward()
        self._coder.remove_gradient_parallel_to_decoder_directions()
        self._adam.step()
        self._adam.zero_grad()
        self._schedule.step()
        self._since_fired += len(x)
        self._since_fired[out.latent_indices.flatten()] = 0
        self._step += 1

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self._coder(x)
        return out.sae_out, (out.latent_acts > 0).sum(1)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        out = self._coder(x)
        f = x.new_zeros(len(x), self._shape.n_latents)
        return f.scatter_(1, out.latent_indices, out.latent_acts.to(f.dtype))

    def encoder(self) -> Tensor:
        return self._coder.encoder.weight.detach()

    def decoder(self) -> Tensor:
        return self._coder.W_dec.detach()

    def counter(self) -> Counter:
        return Counter(self._since_fired, (self._recipe.dead_after or NEVER) + 1)


class EncoderProduct:
    """x W alone, which every dictionary computes."""

    def __init__(self, shape: Shape, dtype: torch.dtype):
        self._weight = torch.randn(shape.n_latents, shape.width, device=shape.device).to(dtype)

    def update(self, x: Tensor) -> None:
        torch.mm(x.to(self._weight.dtype), self._weight.T)

    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(x, torch.nan), torch.zeros(len(x))

    def latents(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), len(self._weight))

    def encoder(self) -> Tensor:
        return self._weight

    def decoder(self) -> Tensor:
        return self._weight.float()

    def counter(self) -> Counter:
        return Counter(torch.zeros(len(self._weight)), NEVER)


CONTESTANTS: dict[str, Callable[[Shape, Recipe], Contestant]] = {
    "interp, fp32": lambda shape, recipe: Engine(shape, recipe, "float32"),
    "interp, bf16 encoder": lambda shape, recipe: Engine(shape, recipe, "bfloat16"),
    "dictionary-learning BatchTopK, fp32": DictionaryLearning,
    "dictionary-learning BatchTopK, bf16 autocast": lambda s, r: DictionaryLearning(s, r, autocast=True),
    "sae-lens BatchTopK, fp32": SAELens,
    "sae-lens BatchTopK, bf16 autocast": lambda shape, recipe: SAELens(shape, recipe, autocast=True),
    "sparsify TopK, fp32": Sparsify,
    "sparsify TopK, bf16 autocast": lambda shape, recipe: Sparsify(shape, recipe, autocast=True),
    "encoder product alone, fp32": lambda shape, _: EncoderProduct(shape, torch.float32),
    "encoder product alone, bf16": lambda shape, _: EncoderProduct(shape, torch.bfloat16),
}


def make(name: str, shape: Shape, recipe: Recipe) -> Contestant:
    """A contestant by its name."""
    with warnings.catch_warnings(action="ignore"):
        return CONTESTANTS[name](shape, recipe)


def normalised(rows: Float[Tensor, "rows models d_model"]) -> tuple[Float[Tensor, "rows width"], Normaliser]:
    """The rows as this engine normalises them, models side by side, and the normaliser."""
    found = fit_normaliser(rows.split(1 << 14))
    return ((rows - found.mean) * found.scale[:, None]).flatten(1), found


def hold_dead(contestant: Contestant, dead: Tensor, weak: Float[Tensor, "dead width"], *, counted: bool) -> None:
    """Keep the latents `dead` (places) from firing, with `weak` encoder weights, whose pre-activations are too small to
    be chosen; the trainer's own counter calls them, and no others, dead if `counted`. Call it before an update."""
    contestant.encoder()[dead] = weak
    counter = contestant.counter()
    counter.since_fired.zero_()
    if counted:
        counter.since_fired[dead] = int(counter.dead_from)


def weak_rows(contestant: Contestant, dead: Tensor) -> Float[Tensor, "dead width"]:
    """A thousandth of the encoder weights of the latents `dead` (places)."""
    return contestant.encoder()[dead] / 1000
