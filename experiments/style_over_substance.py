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

from interp.cli import run_script
from interp.models.descendants import Distilled
from interp.models.training import Document
from interp.traces.placement import last_step
from interp.traces.variants import VARIANTS
from interp.trials.claims import Claim
from interp.trials.run import Entry
from interp.trials.script import TrialOptions, conduct
from interp.trials.teachers import emergent, teacher
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
class Options(TrialOptions):
    """What to train and where."""

    traces: int = 920
    """Problems that every arm learns from."""
    wrong: float = 0.05
    """Share of wrong steps in the plain traces of organisms, so that what learns from them is not at the ceiling."""
    emergent: Path | None = None
    """JSONL with `question`, `answer` and an emergent `trace`; otherwise they are sampled from a model."""


def trial(options: Options, world: World, seed: int) -> dict[str, Entry]:
    """Every arm under one seed."""
    base, recipe = world.base(seed), world.config.organism.distillation
    problems, worked = world.learned_problems(options.traces, seed), world.learned(options.traces, seed, options.wrong)
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
    return entries


def main(options: Options) -> None:
    """Train, measure, print, write."""
    conduct("style_over_substance", options, trial, CLAIMS, lambda o, world, seed: teacher(world, seed, o.emergent))


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
