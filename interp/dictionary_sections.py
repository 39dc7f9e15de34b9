"""The sections of a study's config on what dictionaries are trained on, how, and what is sought in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from interp.crosscoder.config import DictionaryConfig, TrainConfig
from interp.sections import Section


class SitesConfig(Section):
    held_back: int = Field(default=256, ge=8)
    """Problems, the first of the study and at most half, on which no site and no latent is chosen and no direction
    made: in `causal` they are tested on them."""
    problems: int = Field(default=512, ge=8)
    """Further problems into whose answers errors are injected and on which sites are scanned; at most all others."""
    auroc: float = Field(default=0.9, gt=0.5, le=1)
    """Least held-out AUROC of a probe at a site where the decision can be read."""
    carried: float = Field(default=0.97, gt=0, le=1)
    """Least share of the decision that a patch of such a site carries in either direction. At .5 earlier sites pass
    too, where more latents share it."""
    batch_size: int = Field(default=256, ge=1)
    """Prefixes read together."""


class ActivationsConfig(Section):
    layer: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Block at which residuals are read; auto takes the earliest where the decision to check can be read (stage
    `sites`), else the middle one of those where the choice of words can be, else the middle block."""
    site: Literal["auto", "resid_mid", "resid_post"] = "resid_post"
    """The residual between a block's attention and its MLP, or after it; auto chooses among both where the layer is
    auto too, and is resid_post elsewhere."""
    also: list[Annotated[int, Field(ge=0)]] = Field(default=[])
    """Further blocks whose residuals are stored in the same pass, each as a store of its own in the stage's folder."""
    skip_first: int = Field(default=2, ge=0)
    """Positions left out at the start of every text, where norms are many times the median."""
    shard_rows: int = Field(default=131072, ge=1)
    """Rows (tokens) of one file of the store."""
    batch_size: int = Field(default=256, ge=1)
    """Texts read together."""


class ShapeConfig(DictionaryConfig):
    """The engine's shape of a dictionary, with the study's defaults."""

    n_latents: int = Field(default=768, ge=1)
    """Number of latents in the dictionary."""
    k: int | None = Field(default=12, ge=1)
    """Active latents per row: on average over a batch (batch_topk), or in every row (topk); null for other gates."""


class RecipeConfig(TrainConfig):
    """The engine's recipe of training, with the study's defaults."""

    steps: int = Field(default=1500, ge=1)
    """Number of optimiser updates."""
    seed: int | None = Field(default=None, ge=0)  # type: ignore[assignment]
    """Fixes the initial weights, and the order of the rows unless `data_seed` does; null is the study's seed."""


class CrosscoderSection(Section):
    shape: ShapeConfig = ShapeConfig()
    """Size of the dictionary and the gate of its code."""
    train: RecipeConfig = RecipeConfig()
    """Recipe of the training."""
    dictionaries: int = Field(default=3, ge=1)
    """Crosscoders that are trained on the same batches from different seeds. The first is the study's; a located latent
    must recur in most of them. 1 skips the question."""
    spliced_texts: int = Field(default=256, ge=1)
    """Texts of held-out problems on which the reconstruction is spliced into the models, for loss recovered and KL."""
    null_steps: int = Field(default=400, ge=0)
    """Updates of the crosscoders between models of which no latent, or every, is exclusive, beside which claims of
    exclusive latents stand (`features.nulls`); 0 trains none."""
    null_rows: int = Field(default=1 << 16, ge=1024)
    """Rows of the store, at most, that they are trained on."""
    wandb: str | None = None
    """Project of Weights & Biases that the metrics are also sent to; null sends nothing."""

    def recipes(self, seed: int, n_rows: int) -> list[TrainConfig]:
        """The engine's recipe for each dictionary of a study of this seed and a store of `n_rows` rows; they share the
        order of the rows."""
        own = self.train.model_dump()
        first = seed if self.train.seed is None else self.train.seed
        order = first if self.train.data_seed is None else self.train.data_seed
        given = own | {"batch_size": min(self.train.batch_size, n_rows), "data_seed": order}
        return [TrainConfig.model_validate(given | {"seed": first + i}) for i in range(self.dictionaries)]


class FeaturesConfig(Section):
    auroc: float = Field(default=0.55, gt=0.5, le=1)
    """Least AUROC on both halves of a confirmed latent; one that fires on a tenth of a behaviour's tokens has .55."""
    q: float = Field(default=0.01, gt=0, lt=1)
    """False discovery rate (Benjamini-Hochberg over all live latents) on the selection half."""
    injected_texts: int = Field(default=128, ge=1)
    """Texts without a behaviour into which words are put, and as many with one that are paraphrased, for the reverse
    controls of confirmed latents."""
    contexts: int = Field(default=8, ge=1)
    """Top contexts kept for each latent and model."""
    listed: int = Field(default=120, ge=1)
    """Latents for which contexts are kept."""
