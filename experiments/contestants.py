"""Trainers that `benchmark_crosscoder.py` times: this engine, three from PyPI, and the encoder's product alone.

Every one gets the same normalised rows [batch, models * d_model] in the same order and the same learning rate, warmed
up over the same steps, and trains by its own trainer's update. A crosscoder over concatenated models is a dictionary
over the concatenation, so the arithmetic is the same; the peers' decoders have unit norm over all models together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What is trained."""

    n_models: int
    d_model: int
    n_latents: int
    k: int
    batch: int
    steps: int
    lr: float
    warmup: int
    device: str
    k_start: int | None = None
    """Where this engine's k begins (`TrainConfig.k_start`); the others have no such thing."""

    @property
    def width(self) -> int:
        """Dimensions of the concatenation."""
        return self.n_models * self.d_model


class Contestant(Protocol):
    """One trainer, ready to go."""

    def update(self, x: Float[Tensor, "batch width"]) -> None:
        """One update."""
        ...

    def code(self, x: Float[Tensor, "batch width"]) -> tuple[Tensor, Tensor]:
        """(reconstruction, active latents of each row) under the gate of training."""
        ...

    def decoder(self) -> Float[Tensor, "latents width"]:
        """Decoder vectors."""
        ...


class Engine:
    """This project's."""

    def __init__(self, shape: Shape, dtype: str):
        from interp.crosscoder import CrosscoderConfig, TrainConfig
        from interp.crosscoder.rows import Normaliser
        from interp.crosscoder.trainer import Trainer

        config = CrosscoderConfig(n_models=shape.n_models, d_model=shape.d_model, n_latents=shape.n_latents, k=shape.k)
        recipe = TrainConfig.model_validate(
            {
                "steps": shape.steps,
                "batch_size": shape.batch,
                "lr": shape.lr,
                "warmup_fraction": shape.warmup / shape.steps,
                "decay_fraction": 0.0,
                "k_start": shape.k_start,
                "k_anneal_fraction": 0.5,
                "encoder_dtype": dtype,
                "log_every": shape.steps,
            }
        )
        nothing = Normaliser(torch.zeros(shape.n_models, shape.d_model), torch.ones(shape.n_models))
        self._trainer, self._shape = Trainer(config, recipe, nothing, shape.device), shape

    def update(self, x: Tensor) -> None:
        self._trainer.update(x.view(len(x), self._shape.n_models, self._shape.d_model))

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        from interp.crosscoder.encoder import Encoder
        from interp.crosscoder.loss import forward

        crosscoder = self._trainer.crosscoder
        done = forward(crosscoder, x, Encoder(torch.float32)(crosscoder, x), self._shape.k, 1.0)
        return done.x_hat, torch.bincount(done.active.row, minlength=len(x))

    def decoder(self) -> Tensor:
        return self._trainer.crosscoder.decoder.detach()


class DictionaryLearning:
    """dictionary-learning's BatchTopKTrainer."""

    def __init__(self, shape: Shape):
        from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer  # type: ignore[import-not-found]

        self._trainer, self._step = (
            BatchTopKTrainer(
                steps=shape.steps,
                activation_dim=shape.width,
                dict_size=shape.n_latents,
                k=shape.k,
                layer=0,
                lm_name="",
                lr=shape.lr,
                warmup_steps=shape.warmup,
                seed=0,
                device=shape.device,
            ),
            0,
        )

    def update(self, x: Tensor) -> None:
        self._trainer.update(self._step, x)
        self._step += 1

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self._trainer.ae.encode(x, use_threshold=False)
        return self._trainer.ae.decode(f), (f > 0).sum(1)

    def decoder(self) -> Tensor:
        return self._trainer.ae.decoder.weight.detach().T


class SAELens:
    """sae-lens' SAETrainer on a BatchTopKTrainingSAE."""

    def __init__(self, shape: Shape):
        from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(0)
        sae = BatchTopKTrainingSAE(
            BatchTopKTrainingSAEConfig(d_in=shape.width, d_sae=shape.n_latents, k=shape.k, device=shape.device)
        )
        config = SAETrainerConfig(
            total_training_samples=shape.steps * shape.batch,
            train_batch_size_samples=shape.batch,
            lr=shape.lr,
            lr_end=shape.lr,
            lr_warm_up_steps=shape.warmup,
            device=shape.device,
        )
        self._trainer: Any = SAETrainer(config, sae, data_provider=iter(()))

    def update(self, x: Tensor) -> None:
        self._trainer.step(x)
        self._trainer.n_training_steps += 1

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sae = self._trainer.sae
        f = sae.encode(x)
        return sae.decode(f), (f > 0).sum(1)

    def decoder(self) -> Tensor:
        return self._trainer.sae.W_dec.detach()


class Sparsify:
    """eai-sparsify's SparseCoder with its trainer's update, which is bound to a language model and repeated here."""

    def __init__(self, shape: Shape, *, autocast: bool):
        from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]

        torch.manual_seed(0)
        self._coder = SparseCoder(
            shape.width, SparseCoderConfig(num_latents=shape.n_latents, k=shape.k), device=shape.device
        )
        self._adam = torch.optim.Adam(self._coder.parameters(), lr=shape.lr)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adam, lambda step: min(1.0, (step + 1) / max(1, shape.warmup))
        )
        self._silent = torch.zeros(shape.n_latents, dtype=torch.long, device=shape.device)
        self._type, self._autocast, self._first = torch.device(shape.device).type, autocast, True

    def update(self, x: Tensor) -> None:
        if self._first:
            self._coder.b_dec.data = x.mean(0).to(self._coder.b_dec.dtype)
            self._first = False
        self._coder.set_decoder_norm_to_unit_norm()
        with torch.autocast(self._type, torch.bfloat16, enabled=self._autocast):
            out = self._coder(x, dead_mask=self._silent > 10_000_000)
        (out.fvu + out.auxk_loss / 32).backward()
        self._coder.remove_gradient_parallel_to_decoder_directions()
        self._adam.step()
        self._adam.zero_grad()
        self._schedule.step()
        self._silent += len(x)
        self._silent[out.latent_indices.flatten()] = 0

    @torch.no_grad()
    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self._coder(x)
        return out.sae_out, (out.latent_acts > 0).sum(1)

    def decoder(self) -> Tensor:
        return self._coder.W_dec.detach()


class EncoderProduct:
    """x W alone: what no dictionary can do without."""

    def __init__(self, shape: Shape, dtype: torch.dtype):
        self._weight = torch.randn(shape.n_latents, shape.width, device=shape.device).to(dtype)

    def update(self, x: Tensor) -> None:
        torch.mm(x.to(self._weight.dtype), self._weight.T)

    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(x, torch.nan), torch.zeros(len(x))

    def decoder(self) -> Tensor:
        return self._weight.float()


CONTESTANTS: dict[str, Callable[[Shape], Contestant]] = {
    "interp, fp32": lambda shape: Engine(shape, "float32"),
    "interp, bf16 encoder": lambda shape: Engine(shape, "bfloat16"),
    "dictionary-learning BatchTopK": DictionaryLearning,
    "sae-lens BatchTopK": SAELens,
    "sparsify TopK, fp32": lambda shape: Sparsify(shape, autocast=False),
    "sparsify TopK, bf16 autocast": lambda shape: Sparsify(shape, autocast=True),
    "encoder product alone, fp32": lambda shape: EncoderProduct(shape, torch.float32),
    "encoder product alone, bf16": lambda shape: EncoderProduct(shape, torch.bfloat16),
}


def make(name: str, shape: Shape) -> Contestant:
    """A contestant by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CONTESTANTS[name](shape)
