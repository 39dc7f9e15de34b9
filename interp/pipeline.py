"""The stages of a study and their order; running one, or all that are not done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from interp.config import StudyConfig
from interp.disk import remove
from interp.errors import InterpError, first_difference
from interp.folders import digest, intact, new_manifest, publish, read_manifest, recover, verify, writing
from interp.study import Study

EVERY_SECTION = tuple(StudyConfig.model_fields)


@dataclass(frozen=True)
class Stage:
    """One stage, and all that its output depends on: its key is a hash of it. `tests/end_to_end/test_keys.py` compares
    it with what a run reads. The stage itself is the function `run` of `interp.stages.NAME`."""

    name: str
    summary: str
    """For the help."""
    reads: tuple[str, ...]
    """Stages whose folders it reads."""
    sections: tuple[str, ...]
    """Sections of the config that it reads, beside the seed."""
    outside: tuple[str, ...] = ()
    """What it reads from outside the study: keys of `interp.stages.outside.SOURCES`."""
    checks: tuple[str, ...] = ()
    """Sections that it reads only to refuse early what a later stage would refuse; they are not in its key."""
    computes: bool = True
    """Whether it computes with tensors. Device and number of CPU threads are then in its key: they change the last bits
    of a product (a linear layer of 96 x 384 on 7 rows has other bits on two threads than on one), and with them what
    is trained and which token is sampled."""


STAGES = (
    Stage(
        "checkpoints",
        "train the organism's models, or check your own",
        reads=(),
        sections=("task", "organism", "checkpoints"),
        outside=("models",),
        checks=("activations", "causal"),
    ),
    Stage(
        "traces",
        "let every model answer, grade and label the answers",
        reads=("checkpoints",),
        sections=("task", "traces"),
        outside=("models", "problems", "lexicon"),
    ),
    Stage(
        "sites",
        "inject errors, and find where the decision to check can be read",
        reads=("checkpoints", "traces"),
        sections=("task", "traces", "sites", "activations"),
        outside=("models", "problems", "lexicon"),
    ),
    Stage(
        "activations",
        "store all models' residuals on one token stream",
        reads=("checkpoints", "traces", "sites"),
        sections=("task", "traces", "activations"),
        outside=("models", "problems"),
    ),
    Stage(
        "crosscoder",
        "train one dictionary between the models",
        reads=("checkpoints", "activations"),
        sections=("activations", "crosscoder"),
        outside=("models",),
    ),
    Stage(
        "features",
        "describe every latent and select those of the behaviours",
        reads=("checkpoints", "traces", "sites", "activations", "crosscoder"),
        sections=("task", "traces", "sites", "features"),
        outside=("models", "problems", "lexicon"),
    ),
    Stage(
        "causal",
        "patch, ban, ablate, amplify and steer, with controls; reach the verdict",
        reads=("checkpoints", "traces", "sites", "activations", "crosscoder", "features"),
        sections=("task", "organism", "checkpoints", "traces", "sites", "activations", "features", "causal"),
        outside=("models", "problems", "lexicon"),
    ),
    Stage(
        "report",
        "draw the figures and write the page",
        reads=("checkpoints", "traces", "sites", "activations", "crosscoder", "features", "causal"),
        sections=EVERY_SECTION,  # the page prints the whole config
        computes=False,
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}


def stage_config(stage: Stage, config: StudyConfig) -> dict[str, Any]:
    """The part of the config that decides a stage's output; `device` is the one that `auto` stands for here."""
    parts = config.model_dump(mode="json", include={*stage.sections, "seed", "threads", "device"})
    if config.checkpoints.given and stage.name != "report":
        parts.pop("organism", None)
        if stage.name == "checkpoints":
            del parts["task"]
    if stage.computes:
        parts["device"] = _device(config).split(" ")[0]
    return parts


def _device(config: StudyConfig) -> str:
    """`cpu`, or `cuda` and the name of the GPU.

    Raises:
        InterpError: a GPU is asked for and there is none.
    """
    if config.device == "cpu":
        return "cpu"
    from interp.models.trio import pick_device

    if pick_device(config.device).type == "cpu":
        return "cpu"
    import torch

    return f"cuda ({torch.cuda.get_device_name()})"


def _inputs(stage: Stage, study: Study) -> dict[str, str]:
    """Hashes of everything that a stage reads: earlier stages' folders, and what is outside the study."""
    inputs = {}
    for name in stage.reads:
        manifest = read_manifest(study.folder(name))
        if manifest is None:
            raise InterpError(f"stage {stage.name}: {study.folder(name)} is not there; run `interp {name}` first")
        inputs[name] = digest(manifest["files"])
    return inputs | outside(stage, study.config)


def stage_key(study: Study, name: str) -> str:
    """Hash of all that a stage's output depends on: with it a scratch folder is resumed from."""
    stage = BY_NAME[name]
    return _key(name, stage_config(stage, study.config), _inputs(stage, study))


def _key(name: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    return digest([name, config, inputs])


def outside(stage: Stage, config: StudyConfig) -> dict[str, str]:
    """Hashes of what a stage reads from outside the study, by key of the config."""
    from interp.stages.outside import SOURCES

    return {key: value for name in stage.outside for key, value in SOURCES[name](config).items()}


def check_inputs(config: StudyConfig) -> None:
    """Read every file, folder and set of problems the config names, so that a bad one is refused before hours of work.

    Raises:
        InterpError: one is missing or not of its form.
    """
    from interp.stages.problems import test_problems
    from interp.traces.lexicon import load_lexicon

    for stage in STAGES:
        outside(stage, config)
    load_lexicon(config.traces.lexicon)
    test_problems(config)


def run_stage(study: Study, name: str, *, force: bool = False, say: Callable[[str], None] = print) -> bool:
    """Run one stage; False where it was done already with the same config and inputs, and its files are intact.

    Raises:
        InterpError: the stage was done with another config or its files are damaged (unless `force`), its inputs are
            missing, damaged or replaced while it runs, or another run is writing its folder.
    """
    stage, folder = BY_NAME[name], study.folder(name)
    recover(folder)
    inputs = _inputs(stage, study)
    config = stage_config(stage, study.config)
    key = _key(name, config, inputs)

    if _is_done(folder, key, config, inputs, force):
        say(f"{name}: done already ({folder})")
        return False
    for read in stage.reads:
        verify(study.folder(read))
    with writing(folder, key) as scratch:
        if _is_done(folder, key, config, inputs, force):  # by another run, meanwhile
            remove(scratch)
            return False
        manifest = intact(scratch)  # a run was killed while it published
        if manifest is None:
            manifest = new_manifest(name, key, config, inputs, study.config.seed, _device(study.config))
            # Imported here, so that help and complaints do not wait for torch.
            rows = import_module(f"interp.stages.{name}").run(study, scratch)
            manifest |= {"rows": rows, "wall_seconds": time.time() - manifest["started"]}
            if (changed := _changed(inputs, _inputs(stage, study))) is not None:
                raise InterpError(f"{name}: {changed} changed while it was read; run the same command again")
        publish(scratch, folder, manifest)
    say(f"{name}: {manifest['wall_seconds']:.1f} s")
    return True


def _is_done(folder: Path, key: str, config: dict[str, Any], inputs: dict[str, str], force: bool) -> bool:
    """Whether a stage folder has this key and is intact.

    Raises:
        InterpError: it has another key, or a file is damaged (unless `force`).
    """
    done = read_manifest(folder)
    if done is None:
        return False
    if done["config_hash"] == key:
        if force:
            return intact(folder) is not None
        verify(folder)
        return True
    if force:
        return False
    raise InterpError(
        f"{folder} was written with {_difference(done, config, inputs)}; give --force to replace it, or --out for "
        "another place"
    )


def _difference(done: dict[str, Any], config: dict[str, Any], inputs: dict[str, str]) -> str:
    if (found := first_difference(done["config"], config)) is not None:
        key, old, new = found
        return f"{key} = {old!r}, now {new!r}"
    return f"another {_changed(done['inputs'], inputs) or 'version of interp'}"


def _changed(old: dict[str, str], new: dict[str, str]) -> str | None:
    """Names of the inputs that differ, None where none does."""
    return ", ".join(name for name in sorted(old | new) if old.get(name) != new.get(name)) or None


def run_study(study: Study, *, force: bool = False, say: Callable[[str], None] = print) -> None:
    """Run every stage in order, skipping those that are done and intact."""
    check_inputs(study.config)
    for stage in STAGES:
        run_stage(study, stage.name, force=force, say=say)
