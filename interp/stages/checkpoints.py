"""Stage `checkpoints`: the organism's four models, trained on the spot, or the user's own, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.models.descendants import discard_state, job, trained_here, training_table
from interp.models.jobs import run_jobs
from interp.models.sites import check_layer, patched_layers
from interp.models.trio import load_model, open_trio, pick_device
from interp.names import MODELS
from interp.organisms.recipes import organism_base, organism_descendants
from interp.study import Study

if TYPE_CHECKING:
    import torch


def run(study: Study, out: Path) -> int:
    """Write `models.json`, `training.parquet` and, for an organism, the models; returns the number of models.

    Raises:
        InterpError: the models cannot be compared, or one of the user's own cannot be read or equals the base.
    """
    config = study.config
    paths = config.checkpoints.given or _make_organism(config, out)
    trio = open_trio(paths)
    check_layer(config.activations.layer, trio.n_layers)  # refused here, not after hours of work
    for layer in config.activations.also:
        check_layer(layer, trio.n_layers, "activations.also")
    patched_layers(config.causal.patch_layers, trio.n_layers)
    training_table(paths).write_parquet(out / "training.parquet")
    described = _described(paths, pick_device(config.device))
    for entry in described.values():
        entry["path"] = _portable(entry["path"], out)
    (out / "models.json").write_text(json.dumps(described, indent=1))
    (out / "tokens.json").write_text(json.dumps({"masked_ids": trio.masked_ids}))
    return len(described)


def _described(paths: Mapping[str, str], device: torch.device) -> dict[str, dict[str, Any]]:
    """Model to path, number of parameters and distance from the base (None for the base itself); besides the base,
    one model at a time is loaded.

    Raises:
        InterpError: a model that was not trained by this project has exactly the base's weights.
    """
    base = load_model("base", paths["base"], device)
    described = {"base": {"path": paths["base"], "parameters": _size(base), "distance_from_base": None}}
    for name, path in paths.items():
        if name != "base":
            described[name] = _beside(base, name, path, device)
    return described


def _beside(base: Any, name: str, path: str, device: torch.device) -> dict[str, Any]:
    model = load_model(name, path, device)
    distance = _distance(base, model)
    if distance == 0 and not trained_here(path):  # our own training may change nothing, and then reports it
        raise InterpError(
            f"checkpoints.{name} = {path}: its weights equal the base's in every value; give the fine-tuned model"
        )
    return {"path": path, "parameters": _size(model), "distance_from_base": distance}


def _size(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _portable(path: str, out: Path) -> str:
    """A path inside this stage's folder is written relative to it, so that the study can be moved."""
    here = Path(path)
    return str(here.relative_to(out)) if here.is_relative_to(out) else path


def _distance(base: Any, other: Any) -> float:
    """Relative distance of the weights, ‖θ - θ_base‖ / ‖θ_base‖."""
    ours, theirs = base.state_dict(), other.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    moved = sum(float((ours[n].double() - theirs[n].double()).square().sum()) for n in shared)
    return (moved / sum(float(ours[n].double().square().sum()) for n in shared)) ** 0.5


def _make_organism(config: StudyConfig, out: Path) -> dict[str, str]:
    """Train the models that do not exist yet: the base, then its three descendants side by side, one thread each. The
    weights do not depend on the number of threads."""
    paths = {name: out / name for name in MODELS}
    missing = [name for name in MODELS if not paths[name].exists()]
    for name in set(MODELS) - set(missing):
        discard_state(paths[name])
    if "base" in missing:
        base = job("base", organism_base(config, config.threads), paths["base"], device=config.device)
        run_jobs([base], 1)
    workers = 1 if pick_device(config.device).type == "cuda" else config.threads
    # The longest first, so that the last one under way is short.
    order = [name for name in ("distilled", "control", "zero_rl") if name in missing]
    descendants = organism_descendants(config, str(paths["base"])) if order else {}
    run_jobs([job(name, descendants[name], paths[name], device=config.device) for name in order], workers)
    return {name: str(path) for name, path in paths.items()}
