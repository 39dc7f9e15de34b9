"""Distilled, zero-RL and control side by side: accuracy, length, style, verification, the ban, and how much data.

    .venv/bin/python experiments/distill_vs_zero_rl.py

Hu et al. (2025) found a model distilled on 920 traces to beat zero-RL, to speak with far more anthropomorphic words and
connectors, and to fall to the level of zero-RL when these are banned. Their reviewers asked for a paraphrase beside the
ban, for length, and for a curve over the number of traces. All arms come from one base, over three seeds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interp.causal.edits import ban
from interp.cli import run_script
from interp.models.descendants import Distilled, FineTuned
from interp.models.training import Document
from interp.organisms.recipes import organism_descendants
from interp.traces.marker_arms import MARKER_ARMS
from interp.traces.variants import VARIANTS
from interp.trials.claims import Claim
from interp.trials.run import Entry
from interp.trials.script import TrialOptions, conduct
from interp.trials.teachers import emergent, teacher
from interp.trials.world import World

PAPER, REVIEWS = "Hu et al. 2025", "its reviewers"
CLAIMS = (
    Claim("distillation beats zero-RL", PAPER, "distilled", "zero_rl", "more"),
    Claim("the distilled model uses more markers", PAPER, "distilled", "zero_rl", "more", "marker_density", 0.1),
    Claim("it verifies more", PAPER, "distilled", "zero_rl", "more", "verification_rate"),
    Claim("without its markers it is comparable with zero-RL", PAPER, "distilled, ban", "zero_rl", "same"),
    Claim("the ban costs it accuracy", PAPER, "distilled", "distilled, ban", "more"),
    Claim("so does training without markers", REVIEWS, "distilled", "distilled, paraphrase", "more"),
)


@dataclass(frozen=True)
class Options(TrialOptions):
    """What to train and where."""

    sizes: tuple[int, ...] = (100, 250, 500, 920)
    """Numbers of traces, rising; all arms but those of the smaller sizes learn from the last."""
    marker_arms: tuple[Literal["synonym", "insertion", "filler"], ...] = ("insertion",)
    """What else is done to the markers of the traces, beside their paraphrase; each is another arm to train."""
    emergent: Path | None = None
    """JSONL with `question`, `answer` and an emergent `trace`; otherwise they are sampled from a model."""


def trial(options: Options, world: World, seed: int) -> dict[str, Entry]:
    """Every arm under one seed."""
    base, recipe = world.base(seed), world.config.organism.distillation
    taught = emergent(world, seed, options.sizes[-1], options.emergent)

    def distilled(documents: Sequence[Document]) -> Distilled:
        return Distilled(base, documents, recipe, seed)

    entries = {
        "base": Entry(base),
        "distilled": Entry(distilled(taught)),
        **{name: Entry(arm) for name, arm in others(options, world, seed).items()},
        "distilled, ban": Entry(distilled(taught), edit=ban(tuple(world.lexicon.class_of))),
    }
    for name in ("paraphrase", *options.marker_arms):
        rng = random.Random(f"{name}-{seed}")
        changed = [Document(d.prompt, MARKER_ARMS[name](d.completion, world.lexicon, world.voice, rng)) for d in taught]
        entries[f"distilled, {name}"] = Entry(distilled(changed))
    for size in options.sizes[:-1]:
        entries[f"distilled, {size}"] = Entry(distilled(taught[:size]))
    return entries


def others(options: Options, world: World, seed: int) -> dict[str, FineTuned | str]:
    """Zero-RL and control: the organism's are made here, one's own are read as they are, and where there is no control
    the base is taught the plain traces."""
    if world.is_organism:
        made = organism_descendants(world.seeded(seed), world.base(seed))
        return {"zero_rl": made["zero_rl"], "control": made["control"]}
    given, n = world.config.checkpoints.given, options.sizes[-1]
    asked, worked = world.learned_problems(n, seed), world.learned(n, seed)
    texts = [VARIANTS["step_by_step"].write(w, world.voice, random.Random(0)) for w in worked]
    documents = [Document(p.prompt, text) for p, text in zip(asked, texts, strict=True)]
    plain = Distilled(world.base(seed), documents, world.config.organism.distillation, seed)
    return {"zero_rl": given["zero_rl"], "control": given.get("control", plain)}


def ahead(options: Options, world: World, seed: int) -> dict[str, FineTuned]:
    """The arms that need no traces of the teacher, and the teacher."""
    arms = {f"{name}, seed {seed}": arm for name, arm in others(options, world, seed).items()}
    made = {name: arm for name, arm in arms.items() if not isinstance(arm, str)}
    return teacher(world, seed, options.emergent) | made


def main(options: Options) -> None:
    """Train, measure, print, write."""
    few, many = options.sizes[0], options.sizes[-1]
    size = Claim(f"{many} traces beat {few}", REVIEWS, "distilled", f"distilled, {few}", "more")
    conduct("distill_vs_zero_rl", options, trial, (*CLAIMS, size), ahead)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
