"""Before or after the answer, intact, shuffled, or a few words: what of a rationale does distillation need?

    .venv/bin/python experiments/rationale_placement.py

Wadhwa, Amir & Wallace (2024) found rationales to help more after the label than before it, to survive a shuffle there,
and a few key tokens to do as well as all. The factorial here: {intact, shuffled, key words by gradient, key words by
low probability, as many random words} x {before, after}, each the same base fine-tuned on the same problems.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from interp.cli import run_script
from interp.models.attribution import Rationale, by_gradient, by_surprise
from interp.models.descendants import Distilled
from interp.models.training import Document
from interp.models.trio import load_model, pick_device, read_tokenizer
from interp.traces.placement import AFTER, BEFORE, answer_first, key_words, place, random_words, shuffled, words_of
from interp.traces.voice import Worked
from interp.trials.claims import Claim
from interp.trials.run import Entry
from interp.trials.script import TrialOptions, conduct
from interp.trials.world import World

PAPER = "Wadhwa et al. 2024"
HELPS = ("intact, after", "no rationale")
CLAIMS = (
    Claim("after the answer a rationale helps more than before it", PAPER, "intact, after", "intact, before", "more"),
    Claim("after the answer it helps beyond no rationale", PAPER, "intact, after", "no rationale", "more"),
    *(
        Claim(f"after the answer {says}", PAPER, f"{arm}, after", "intact, after", "same", presumes=HELPS)
        for says, arm in (
            ("a shuffle costs nothing", "shuffled"),
            ("key words by gradient do as well as all", "key (gradient)"),
            ("key words by low probability do as well as all", "key (surprise)"),
        )
    ),
    Claim("before it key words do as well as all", "its converse", "key (gradient), before", "intact, before", "same"),
    Claim("before the answer the order matters", "its converse", "intact, before", "shuffled, before", "more"),
)


@dataclass(frozen=True)
class Options(TrialOptions):
    """What to train and where."""

    traces: int = 920
    """Problems that every arm learns from."""


def arrangements(world: World, base: str, worked: Sequence[Worked], prompts: Sequence[str], seed: int):
    """Every problem's words under each arrangement; what a key word is the base itself says."""
    words, rng = [words_of(w, world.voice) for w in worked], random.Random(f"words-{seed}")
    model, tokenizer = load_model("base", base, pick_device(world.config.device)), read_tokenizer("base", base)
    rationales = [
        Rationale(prompt, tuple(said), world.voice.end(w.answer))
        for prompt, said, w in zip(prompts, words, worked, strict=True)
    ]
    gradient, surprise = (score(model, tokenizer, rationales) for score in (by_gradient, by_surprise))
    return {
        "intact": words,
        "shuffled": [shuffled(said, rng) for said in words],
        "key (gradient)": [key_words(said, scores) for said, scores in zip(words, gradient, strict=True)],
        "key (surprise)": [key_words(said, scores) for said, scores in zip(words, surprise, strict=True)],
        "random": [random_words(said, rng) for said in words],
    }


def trial(options: Options, world: World, seed: int) -> dict[str, Entry]:
    """Every arm under one seed."""
    base, recipe = world.base(seed), world.config.organism.distillation
    prompts = [p.prompt for p in world.learned_problems(options.traces, seed)]
    worked = world.learned(options.traces, seed)
    after = answer_first(world.task, world.voice)
    alone = [world.voice.end(w.answer).strip() for w in worked]
    entries = {"no rationale": Entry(_distilled(base, prompts, alone, recipe, seed), after)}
    for name, words in arrangements(world, base, worked, prompts, seed).items():
        for where, task in ((BEFORE, None), (AFTER, after)):
            texts = [place(said, w, world.voice, where) for said, w in zip(words, worked, strict=True)]
            entries[f"{name}, {where}"] = Entry(_distilled(base, prompts, texts, recipe, seed), task)
    return entries


def _distilled(base: str, prompts: Sequence[str], texts: Sequence[str], recipe, seed: int) -> Distilled:
    return Distilled(base, [Document(p, t) for p, t in zip(prompts, texts, strict=True)], recipe, seed)


def main(options: Options) -> None:
    """Train, measure, print, write."""
    conduct("rationale_placement", options, trial, CLAIMS)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
