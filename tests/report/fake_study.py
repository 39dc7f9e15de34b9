"""A small, complete, seeded study on disk, with every file that the report reads and numbers of a likely size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from interp.names import COMPARED, STAGE_NAMES

from .fake_effects import write_causal
from .fake_files import MODELS, write_json, write_table
from .fake_latents import write_crosscoder, write_features
from .fake_sites import write_sites
from .fake_traces import write_traces


def make_study(root: Path, models: Sequence[str] = MODELS, hostile: bool = False, n_latents: int = 60) -> Path:
    """Write the study under `root` and return it. `hostile` puts markup and invisible characters wherever a model or
    a user writes text."""
    rng = random.Random(7)
    _checkpoints(root / "checkpoints", models, rng)
    write_traces(root / "traces", models, rng, hostile)
    write_sites(root / "sites", models, hostile)
    write_json(root / "activations" / "moved.json", {"base": 0.0, "distilled": 0.4127, "zero_rl": 0.0919})
    compared = [model for model in models if model in COMPARED]
    write_crosscoder(root / "crosscoder", compared, rng, n_latents)
    write_features(root / "features", compared, rng, n_latents, hostile)
    write_causal(root / "causal", models, rng, hostile)
    for at, stage in enumerate(STAGE_NAMES[:-1]):
        manifest = {
            "stage": stage,
            "config_hash": f"{at:x}b7e{'0' * 60}",
            "wall_seconds": 31.25 * 4**at,
            "rows": 1024 * (at + 1),
            "versions": {"python": "3.11.9", "torch": "2.9.0", "interp": "0.1.0"},
            "device": "cpu",
            "seeds": [7],
            "started": 1.8e9,
            "inputs": {},
            "files": {},
            "config": {stage: {"temperature": 0.7}} if stage == "traces" else {stage: {}},
        }
        write_json(root / stage / "manifest.json", manifest)
    return root


def _checkpoints(folder: Path, models: Sequence[str], rng: random.Random) -> None:
    distances = {"base": None, "distilled": 0.1814, "zero_rl": 0.0312, "control": 0.1722}
    about = {
        m: {"path": f"runs/functional-0/{m}", "parameters": 451_584, "distance_from_base": distances[m]} for m in models
    }
    write_json(folder / "models.json", about)
    rows = [
        {"model": m, "step": step, "metric": "loss", "value": 0.3 + 2.5 / (1 + step / 60) + rng.gauss(0, 0.02)}
        for m in models
        if m != "zero_rl"
        for step in range(0, 800 if m == "base" else 600, 20)
    ]
    rows += [
        {"model": "zero_rl", "step": s, "metric": "reward", "value": 0.43 + 0.12 * s / 200 + rng.gauss(0, 0.02)}
        for s in range(0, 200, 5)
    ]
    write_table(folder / "training.parquet", rows)
