"""How does the time of setting the threshold and of measuring grow with the number of held-out rows?

    python experiments/benchmark_calibration.py
    python experiments/benchmark_calibration.py --rows 5000 20000 80000 --latents 8192 --device cuda

Both should be linear: four times the rows in about four times as long. Rows are planted latents; the crosscoder is an
untrained one, whose scores are spread as those of a trained one are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import tyro

from interp.crosscoder import Crosscoder, CrosscoderConfig, evaluate
from interp.crosscoder.metrics import calibrate
from interp.crosscoder.planted import PlantedConfig, plant


@dataclass(frozen=True)
class Options:
    """Sizes of the benchmark."""

    rows: tuple[int, ...] = (4096, 16384, 65536)
    """Numbers of held-out rows."""
    latents: int = 2048
    """Latents of the dictionary."""
    d_model: int = 128
    """Width of each of the three models."""
    k: int = 32
    """Active latents per row."""
    device: str = "cpu"
    """Device of the crosscoder; the rows are in main memory."""
    seed: int = 0
    """Fixes rows and weights."""


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least wall time of a few calls."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main(options: Options) -> None:
    """Print one line per number of rows, and the factors between neighbours."""
    shape = CrosscoderConfig(n_models=3, d_model=options.d_model, n_latents=options.latents, k=options.k)
    crosscoder = Crosscoder(shape, options.seed).requires_grad_(False).to(options.device)
    rows = plant(PlantedConfig(d_model=options.d_model, seed=options.seed)).rows(max(options.rows), options.seed)
    measured = []
    for n in options.rows:
        some = rows[:n]
        crosscoder.threshold.copy_(calibrate(crosscoder, lambda some=some: some.split(1024)))
        gate = seconds(lambda some=some: calibrate(crosscoder, lambda: some.split(1024)))
        measured.append((n, gate, seconds(lambda some=some: evaluate(crosscoder, some))))
        print(f"{n:>9,} rows   threshold {gate:7.2f} s   evaluation {measured[-1][2]:7.2f} s", flush=True)
    for (n, *before), (more, *after) in itertools.pairwise(measured):
        factors = [later / earlier for earlier, later in zip(before, after, strict=True)]
        print(f"{more / n:.1f} x the rows: threshold {factors[0]:.1f} x, evaluation {factors[1]:.1f} x the time")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
