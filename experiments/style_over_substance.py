"""Does style alone help, do wrong answers still help, and does the body of the wrong trace explain it?

    .venv/bin/python experiments/style_over_substance.py

Lippmann & Yang (2025) trained on emergent traces, on plain reasoning told to write in their style, on the same with a
wrong ending, on no trace, and on plain steps. Here each arm is the same base fine-tuned on as many problems, over three
seeds; `--config` takes any trio with problems that have a `trace` (its plain solution).
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

from interp.cli import prepare, run_script
from interp.config import load_config
from interp.models.arms import Distilled
from interp.models.training import Document
from interp.traces.placement import last_step
from interp.traces.variants import VARIANTS
from interp.trials.claims import Claim
from interp.trials.results import Results, publish
from interp.trials.run import Entry, Measured, run_trial
from interp.trials.teachers import emergent
from interp.trials.world import World

PAPER = "Lippmann & Yang 2025"
BODIES = ("wrong_ending, last step", "base, last step")
CLAIMS = (
    Claim("style by rule beats plain steps", PAPER, "hard_coded", "step_by_step", "more"),
    Claim("style by rule does as well as emergent traces", PAPER, "hard_coded", "emergent", "same"),
    Claim("with a wrong ending traces still help", PAPER, "wrong_ending", "base", "more"),
    Claim("the body of the wrong trace explains it", "its own caveat", "wrong_ending", "wrong_body", "more"),
    Claim("the body learned from it is better than the base's", "its own caveat", *BODIES, "more"),
    Claim("at equal length the style still helps", "length was not matched there", "hard_coded", "filled", "more"),
)


@dataclass(frozen=True)
class Options:
    """What to train and where."""

    config: Path = Path("experiments/configs/organism.yaml")
    """Study whose base, task and recipe are used."""
    seeds: tuple[int, ...] = (10, 11, 12)
    """Seeds; everything random follows them."""
    traces: int = 920
    """Problems that every arm learns from."""
    emergent: Path | None = None
    """JSONL with `question`, `answer` and an emergent `trace`; otherwise they are sampled from a model."""
    out: Path = Path("results/style_over_substance")
    """Folder of the tables."""
    store: Path = Path("results/store")
    """Folder of all models, shared by the experiments: each is made once."""
    figures: Path = Path("figures")
    """Folder of the figure."""


def trial(options: Options, world: World, seed: int) -> dict[str, Measured]:
    """Every arm under one seed."""
    base, recipe = world.base(seed), world.config.organism.distillation
    problems, worked = world.learned_problems(options.traces, seed), world.learned(options.traces, seed)
    entries = {"base": Entry(base)}
    taught = emergent(world, seed, options.traces, options.emergent)
    entries["emergent"] = Entry(Distilled(base, taught, recipe, seed))
    for name, variant in VARIANTS.items():
        rng = random.Random(f"{name}-{seed}")
        texts = [variant.write(w, world.voice, rng) for w in worked]
        documents = [Document(p.prompt, text) for p, text in zip(problems, texts, strict=True)]
        entries[name] = Entry(Distilled(base, documents, recipe, seed))
    body = last_step(world.task, world.voice)
    entries |= {f"{name}, last step": Entry(entries[name].arm, body) for name in ("base", "wrong_ending", "wrong_body")}
    return run_trial(world, seed, entries)


def main(options: Options) -> None:
    """Train, measure, print, write."""
    config = load_config(options.config)
    prepare(config)
    world = World(config, options.store)
    found = {seed: trial(options, world, seed) for seed in options.seeds}
    results = Results(found, config.causal.bound, config.causal.resamples)
    publish("style_over_substance", results, CLAIMS, options.out, options.figures)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
