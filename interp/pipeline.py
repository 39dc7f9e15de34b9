"""The stages of a study and their order; running one, or all that are not done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.folders import digest, new_manifest, publish, read_manifest, verify, writing
from interp.study import Study


@dataclass(frozen=True)
class Stage:
    """One arrow of the data's way."""

    name: str
    summary: str
    """What it does, for the help."""
    reads: tuple[str, ...]
    """Stages whose folders it reads."""
    sections: tuple[str, ...]
    """Parts of the config that decide its output, beside the seed."""


STAGES = (
    Stage("checkpoints", "train the organism's models, or check your own", (), ("task", "organism", "checkpoints")),
    Stage("traces", "let every model answer, grade and label the answers", ("checkpoints",), ("task", "traces")),
    Stage(
        "activations", "store all models' residuals on one token stream", ("checkpoints", "traces"), ("activations",)
    ),
    Stage("crosscoder", "train one dictionary between the models", ("checkpoints", "activations"), ("crosscoder",)),
    Stage(
        "features",
        "describe every latent and select those of the behaviours",
        ("traces", "activations", "crosscoder"),
        ("features",),
    ),
    Stage(
        "causal",
        "patch, ban, ablate, amplify and steer, with controls; reach the verdict",
        ("checkpoints", "traces", "activations", "crosscoder", "features"),
        ("causal", "traces", "task"),
    ),
    Stage(
        "report",
        "draw the figures and write the page",
        ("checkpoints", "traces", "activations", "crosscoder", "features", "causal"),
        ("report", "name"),
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}


def stage_config(stage: Stage, config: StudyConfig) -> dict[str, Any]:
    """The part of the config that decides a stage's output."""
    parts = config.model_dump(mode="json", include={*stage.sections, "seed", "threads", "device"})
    if stage.name == "checkpoints" and config.checkpoints.given:
        del parts["organism"], parts["task"]
    return parts


def stage_key(stage: Stage, study: Study) -> tuple[str, dict[str, str]]:
    """Hash of all that decides a stage's output, and the hashes of its inputs."""
    inputs = {}
    for name in stage.reads:
        manifest = read_manifest(study.folder(name))
        if manifest is None:
            raise InterpError(f"stage {stage.name}: {study.folder(name)} is not there; run `interp {name}` first")
        inputs[name] = digest(manifest["files"])
    from interp.stages.inputs import outside_inputs

    inputs |= outside_inputs(stage.name, study.config)
    return digest([stage.name, stage_config(stage, study.config), inputs]), inputs


def run_stage(study: Study, name: str, *, force: bool = False, say: Callable[[str], None] = print) -> bool:
    """Run one stage; False where it was done already with the same config and inputs.

    Raises:
        InterpError: the stage was done with another config (unless `force`), or its inputs are missing or damaged.
    """
    stage, folder = BY_NAME[name], study.folder(name)
    key, inputs = stage_key(stage, study)
    done = read_manifest(folder)
    if done is not None and done["config_hash"] == key:
        say(f"{name}: done already ({folder})")
        return False
    if done is not None and not force:
        raise InterpError(
            f"{folder} was written with {_difference(done, stage, study, inputs)}; "
            "give --force to replace it, or --out for another place"
        )
    for read in stage.reads:
        verify(study.folder(read))
    manifest = new_manifest(name, key, stage_config(stage, study.config), inputs, study.config.seed)
    with writing(folder, key) as scratch:
        # Imported here, so that help and complaints do not wait for torch.
        rows = import_module(f"interp.stages.{name}").run(study, scratch)
        manifest |= {"rows": rows, "wall_seconds": time.time() - manifest["started"]}
        publish(scratch, folder, manifest)
    say(f"{name}: {manifest['wall_seconds']:.1f} s")
    return True


def _difference(done: dict[str, Any], stage: Stage, study: Study, inputs: dict[str, str]) -> str:
    old, new = _flat(done["config"]), _flat(stage_config(stage, study.config))
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            return f"{key} = {old.get(key)!r}, now {new.get(key)!r}"
    changed = [name for name in inputs if done["inputs"].get(name) != inputs[name]]
    return f"another {', '.join(changed) or 'set of inputs'}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()}


def run_study(study: Study, *, force: bool = False, say: Callable[[str], None] = print) -> None:
    """Run every stage in order, skipping those that are done."""
    from interp.stages.inputs import check_inputs

    check_inputs(study.config)
    for stage in STAGES:
        run_stage(study, stage.name, force=force, say=say)
