"""How should a small model's threads be spent: on its operations, or on whole pieces of work? Side by side, in turn.

    .venv/bin/python experiments/benchmark_workers.py experiments/configs/organism.yaml

Times the training of a base, whose micro-batches may be differentiated side by side, and the writing of edited texts,
which several processes may share; each with the config's threads inside the operations and with one thread for each
piece of work. The study must be done up to `features`. The time of the edits holds the start of the processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro

from interp.causal.arms import Arm
from interp.causal.run import run as run_arms
from interp.causal.setting import Setting
from interp.cli import SPINS, open_study, run_script
from interp.config import StudyConfig
from interp.models.descendants import make_arm
from interp.models.trio import open_trio, pick_device
from interp.organisms.recipes import organism_base
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
    updates: int = 40
    """Of the base's training."""
    arms: int = 8
    """Of the study's, each with its controls."""
    repeats: int = 3
    """Times that each way is measured, in turn with the other."""


def training(config: StudyConfig, updates: int, inside: int, beside: int) -> float:
    """Seconds of a base's first updates, with `inside` threads in every operation and `beside` micro-batches at once;
    without the time that a training of one update takes to begin and end."""
    seconds = []
    for steps in (1, updates + 1):
        pretraining = config.organism.pretraining.model_copy(update={"steps": steps})
        organism = config.organism.model_copy(update={"pretraining": pretraining})
        base = organism_base(config.model_copy(update={"organism": organism}), beside)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            make_arm(base, Path(folder) / "base", inside, lambda done: None, config.device)
            seconds.append(time.perf_counter() - start)
    return seconds[1] - seconds[0]


def writing(setting: Setting, arms: Sequence[Arm], workers: int, threads: int) -> float:
    """Seconds in which the arms are run."""
    shared = replace(setting, workers=workers, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with shared.crew() as spread:
            run_arms(shared, arms, Path(folder), spread=spread)
        return time.perf_counter() - start


def main(options: Options) -> None:
    """Measure both and print a table."""
    out = () if options.out is None else ("--out", str(options.out))
    study = open_study(options.config, *out, until="features")
    config, n = study.config, study.config.threads
    trio, device = open_trio(checkpoint_paths(study)), pick_device(study.config.device)
    setting = setting_of(config, trio, device, test_problems(config)[: config.causal.problems])
    with tempfile.TemporaryDirectory() as folder:
        arms = [arm for arm in activation_arms(study, trio, device, Path(folder)) if arm.controls][: options.arms]
    ways = {
        f"{options.updates} updates of a base": (
            lambda: training(config, options.updates, n, 1),
            lambda: training(config, options.updates, 1, n),
        ),
        f"{len(arms)} arms with their controls": (
            lambda: writing(setting, arms, 1, n),
            lambda: writing(setting, arms, n, 1),
        ),
    }
    print(
        f"| seconds | {n} threads in every operation | one thread for each of {n} pieces | ratio |\n|---|---|---|---|"
    )
    for name, (inside, apart) in ways.items():
        pairs = [(inside(), apart()) for _ in range(options.repeats)]
        ratio = median(a / b for a, b in pairs)
        print(f"| {name} | {median(a for a, _ in pairs):.1f} | {median(b for _, b in pairs):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    if "GOMP_SPINCOUNT" not in os.environ:  # as `interp` has it; libgomp has read it by now
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"GOMP_SPINCOUNT": SPINS})
    sys.exit(run_script(main, Options, __doc__))
