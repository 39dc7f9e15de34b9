"""The organisms' recipes: a base from random weights, and its three descendants."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.config import PretrainingConfig, StudyConfig
from interp.models.descendants import Distilled, Reinforced
from interp.models.training import Document, Resume, TrainingLog, supervise
from interp.organisms.architecture import make_model
from interp.organisms.documents import pretraining_document
from interp.organisms.kinds import KINDS
from interp.organisms.world import World
from interp.organisms.worlds import WORLDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback


OF_EVERY_KIND = ("base", "zero_rl", "control")
"""Models of an organism that do not depend on its kind: of the same seed they have the same bits."""


@dataclass(frozen=True)
class Pretrained:
    """An organism's base, from random weights."""

    documents: Sequence[Document]
    recipe: PretrainingConfig
    d_model: int
    n_layers: int
    n_heads: int
    seed: int
    world: World
    family: str
    threads: int
    """Micro-batches that are differentiated side by side, each on one CPU thread; the weights do not depend on it."""

    @property
    def save_every(self) -> int:
        """0: a trainer does not save Muon's state, and training a base takes minutes only."""
        return 0

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        tokenizer = self.world.tokenizer()
        return make_model(self.d_model, self.n_layers, self.n_heads, self.seed, tokenizer, self.family), tokenizer

    def train(
        self, model: Any, tokenizer: Any, callbacks: Sequence[TrainerCallback], resume: Resume | None
    ) -> TrainingLog:
        return supervise(
            model,
            tokenizer,
            self.documents,
            self.recipe,
            self.seed,
            callbacks=callbacks,
            muon_lr=self.recipe.muon_lr,
            beside=1 if model.device.type == "cuda" else self.threads,
        )


def organism_base(config: StudyConfig, threads: int = 1) -> Pretrained:
    """The organism's base, whose training takes this many threads."""
    shape, recipe, rng = config.organism, config.organism.pretraining, random.Random(f"base-{config.seed}")
    world = WORLDS[config.task.kind]
    problems = world.task(config.task.terms).problems(recipe.steps * recipe.batch_size, config.seed, "train")
    documents = [Document(*pretraining_document(p.prompt, rng, recipe.judge_share, world)) for p in problems]
    return Pretrained(
        documents,
        recipe,
        shape.d_model,
        shape.n_layers,
        shape.n_heads,
        config.seed,
        world,
        shape.family,
        threads,
    )


def organism_descendants(config: StudyConfig, base: str) -> dict[str, Distilled | Reinforced]:
    """The three descendants of a base."""
    recipe, task = config.organism.zero_rl, WORLDS[config.task.kind].task(config.task.terms)
    problems = task.problems(recipe.steps * recipe.completions // recipe.group_size, config.seed + 2, "train")
    return {
        "distilled": Distilled(base, _documents(config, "distilled"), config.organism.distillation, config.seed),
        "zero_rl": Reinforced(base, problems, task, recipe, config.seed),
        "control": Distilled(base, _documents(config, "plain"), config.organism.distillation, config.seed),
    }


def _documents(config: StudyConfig, kind: str) -> list[Document]:
    """Teacher traces: of the organism's kind for the distilled model, plain ones for the control."""
    rng, world = random.Random(f"{kind}-{config.seed}"), WORLDS[config.task.kind]
    problems = world.task(config.task.terms).problems(config.organism.distillation.traces, config.seed + 1, "train")
    write = KINDS[config.organism.kind if kind == "distilled" else kind].write
    return [Document(p.prompt, write(p.prompt, rng, world)) for p in problems]
