"""A stage's key holds all that the stage reads: here every stage runs with a config and a study that note it."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from interp.config import StudyConfig, load_config
from interp.organisms.recipes import organism_base, organism_descendants
from interp.pipeline import STAGES, Stage
from interp.study import Study
from tests.end_to_end.conftest import CONFIG

ALWAYS = {"seed", "threads", "device"}


def noting(section: Any, seen: set[str], prefix: str = "") -> Any:
    """The section with every field that is read noted in `seen`, by its dotted name."""
    fields = {name: getattr(section, name) for name in type(section).model_fields}
    inner = {n: noting(v, seen, f"{prefix}{n}.") if isinstance(v, BaseModel) else v for n, v in fields.items()}

    def note(self: Any, name: str) -> Any:
        if name in fields:
            seen.add(prefix + name)
        elif name == "model_dump":
            seen.update(prefix + field for field in fields)
        return object.__getattribute__(self, name)

    return type("Noting", (type(section),), {"__getattribute__": note}).model_construct(**inner)


class NotingStudy(Study):
    """A study that notes whose folders are asked for."""

    def folder(self, stage: str) -> Path:
        folders.add(stage)
        return super().folder(stage)


folders: set[str] = set()


def test_reads_are_noted() -> None:
    seen: set[str] = set()
    config = noting(load_config(CONFIG), seen)
    assert seen == set()
    assert config.traces.problems == 288 and config.checkpoints.given == {}
    assert {"traces", "traces.problems", "checkpoints", "checkpoints.base"} <= seen
    assert "crosscoder" not in seen
    config.crosscoder.train.model_dump()
    assert "crosscoder.train.steps" in seen


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.computes], ids=lambda stage: stage.name)
def test_a_stage_reads_what_it_declares(study: Path, tmp_path: Path, stage: Stage) -> None:
    seen: set[str] = set()
    config = noting(load_config(CONFIG), seen)
    out = tmp_path / stage.name
    out.mkdir()
    if stage.name == "checkpoints":  # trained models are found, so that only the rest of the stage runs
        for name in json.loads((study / stage.name / "models.json").read_text()):
            shutil.copytree(study / stage.name / name, out / name)
        organism_base(config)
        organism_descendants(config, str(out / "base"))
    folders.clear()
    import_module(f"interp.stages.{stage.name}").run(NotingStudy(config, study), out)
    assert {name.partition(".")[0] for name in seen} - ALWAYS <= {*stage.sections, *stage.checks}
    # Runs of the finished stage are taken up again; the names of their files hold what they depend on.
    own = {"causal"} if stage.name == "causal" else set()
    assert folders - own <= set(stage.reads)
    loads_models = "checkpoints" in folders or stage.name == "checkpoints"
    for source, is_read in (
        ("models", loads_models),
        ("problems", "traces.file" in seen),
        ("lexicon", "traces.lexicon" in seen),
    ):
        assert source in stage.outside or not is_read


def test_the_report_prints_the_whole_config_and_reads_every_stage() -> None:
    *others, report = STAGES
    assert report.name == "report"
    assert report.sections == tuple(StudyConfig.model_fields)
    assert report.reads == tuple(stage.name for stage in others)
