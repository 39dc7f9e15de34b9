"""Stage `checkpoints`: the organism's four models, trained on the spot, or the user's own, checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp.config import StudyConfig
from interp.models.descendants import job, training_table
from interp.models.jobs import run_jobs
from interp.models.sites import check_layer, patched_layers
from interp.models.trio import load_model, open_trio, pick_device
from interp.names import MODELS
from interp.organisms.recipes import organism_base, organism_descendants
from interp.study import Study


def run(study: Study, out: Path) -> int:
    """Write `models.json`, `training.parquet` and, for an organism, the models; returns the number of models."""
    config = study.config
    paths = config.checkpoints.given or _make_organism(config, out)
    trio = open_trio(paths)
    check_layer(config.activations.layer, trio.n_layers)  # said before hours of work, not after
    patched_layers(config.causal.patch_layers, trio.n_layers)
    device = pick_device(config.device)
    models = {name: load_model(name, path, device) for name, path in paths.items()}
    described = {
        name: {
            "path": _portable(paths[name], out),
            "parameters": sum(p.numel() for p in model.parameters()),
            "distance_from_base": None if name == "base" else _distance(models["base"], model),
        }
        for name, model in models.items()
    }
    training_table(paths).write_parquet(out / "training.parquet")
    (out / "models.json").write_text(json.dumps(described, indent=1))
    (out / "tokens.json").write_text(json.dumps({"masked_ids": trio.masked_ids}))
    return len(models)


def _portable(path: str, out: Path) -> str:
    """A path inside this stage's folder is kept relative to it, so that the study can be moved."""
    here = Path(path)
    return str(here.relative_to(out)) if here.is_relative_to(out) else path


def _distance(base: Any, other: Any) -> float:
    """Relative distance of the weights, ‖θ - θ_base‖ / ‖θ_base‖: how far the fine-tuning moved them."""
    ours, theirs = base.state_dict(), other.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    moved = sum(float((ours[n].double() - theirs[n].double()).square().sum()) for n in shared)
    return (moved / sum(float(ours[n].double().square().sum()) for n in shared)) ** 0.5


def _make_organism(config: StudyConfig, out: Path) -> dict[str, str]:
    """Train what is not there yet: the base, then its three descendants side by side, one thread each."""
    paths = {name: out / name for name in MODELS}
    missing = [name for name in MODELS if not paths[name].exists()]
    if "base" in missing:
        run_jobs([job("base", organism_base(config), paths["base"], config.threads)], 1)
    workers = 1 if pick_device(config.device).type == "cuda" else config.threads
    # The longest first, so that the last one running is short.
    order = [name for name in ("distilled", "control", "zero_rl") if name in missing]
    descendants = organism_descendants(config, str(paths["base"])) if order else {}
    run_jobs([job(name, descendants[name], paths[name]) for name in order], workers)
    return {name: str(path) for name, path in paths.items()}
