"""How much slower is generation under an edit? Side by side in one process, untouched and edited in turn.

    .venv/bin/python experiments/benchmark_edits.py experiments/configs/organism.yaml

Takes the arms of a study that is done up to `features`: each edit alone on all problems, and each edit with its control
draws in one batch, as the study runs them. Speed is tokens a second, so that an edit that makes texts longer is not
called slow; the ratio is to the same number of untouched rows. An edit of latents needs the other models to read along.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro

from interp.causal.decoding import EditedDecoder
from interp.causal.edits import Edit, NoEdit, Scene
from interp.causal.setting import SAMPLED, Setting
from interp.cli import open_study, run_script
from interp.generation.part import Job
from interp.generation.sampling import write
from interp.models.trio import open_trio, pick_device
from interp.names import EDITED
from interp.stages.activation_arms import activation_arms
from interp.stages.causal import setting_of
from interp.stages.problems import test_problems
from interp.stages.traces import checkpoint_paths


@dataclass(frozen=True)
class Options:
    """What to measure."""

    config: Annotated[Path, tyro.conf.Positional]
    """YAML file of the study."""
    out: Path | None = None
    """Folder of the study; results/NAME unless given."""
    alone: int = 512
    """Problems of an edit alone."""
    problems: int = 64
    """Problems of each edit where it is run with its controls."""
    draws: int = 15
    """Control draws in one batch with the edit."""
    repeats: int = 5
    """Times that each is measured, in turn with the untouched run."""


def speed(setting: Setting, edits: Sequence[Edit], problems: int) -> float:
    """Tokens a second of one batch in which each edit is run on the first problems."""
    how, vocabulary = setting.writing(EDITED, SAMPLED), setting.vocabularies[EDITED]
    numbers = range(problems)
    running = [edit.start(Scene(vocabulary, problems, setting.seed, how.temperature)) for edit in edits]
    prompts = [setting.encoded[EDITED][n] for n in numbers]
    jobs = [Job(prompts, numbers, one) for one in running]
    decoder = EditedDecoder(setting.models, EDITED, running, vocabulary)
    start = time.perf_counter()
    rollouts = write(decoder, setting.tokenizers[EDITED], jobs, how)
    return sum(len(r.completion_ids) for job in rollouts for r in job) / (time.perf_counter() - start)


def measured(setting: Setting, edits: Sequence[Edit], problems: int, repeats: int) -> tuple[float, float, float]:
    """(untouched, edited, ratio): medians over repeats in turn."""
    plain: list[Edit] = [NoEdit()] * len(edits)
    pairs = [(speed(setting, plain, problems), speed(setting, edits, problems)) for _ in range(repeats + 1)][1:]
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs)


def main(options: Options) -> None:
    """Measure every kind of residual edit of the study and print a table."""
    out = () if options.out is None else ("--out", str(options.out))
    study = open_study(options.config, *out, until="features")
    torch.set_num_threads(study.config.threads)
    device = pick_device(study.config.device)
    trio = open_trio(checkpoint_paths(study))
    setting = setting_of(study.config, trio, device, test_problems(study.config))
    with tempfile.TemporaryDirectory() as folder:
        arms = activation_arms(study, trio, device, Path(folder))
    print("| edit | rows | untouched, tokens/s | edited | ratio |\n|---|---|---|---|---|")
    for arm in arms:
        cases = {"alone": ([arm.edit], options.alone)}
        if arm.controls:
            draws = arm.controls[: options.draws]
            cases[f"with {len(draws)} draws"] = ([arm.edit, *draws], options.problems)
        for how, (edits, problems) in cases.items():
            plain, edited, ratio = measured(setting, edits, problems, options.repeats)
            rows = len(edits) * problems
            print(f"| {arm.name}, {how} | {rows} | {plain:,.0f} | {edited:,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
