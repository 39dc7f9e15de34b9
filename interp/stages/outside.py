"""What stages read from outside the study, as hashes: the user's files and models, and data sets of the hub.

`Stage.outside` names the functions whose hashes are part of a stage's key. Nothing here loads a heavy library.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.folders import file_digest
from interp.models.revision import hub_commit, revision
from interp.tasks.hub import BENCHMARKS
from interp.traces.lexicon import BUNDLED

Hashes = dict[str, str]
"""Key of the config to a hash of what it names."""


def models(config: StudyConfig) -> Hashes:
    """The user's own checkpoints; none for an organism."""
    return {f"checkpoints.{name}": revision(path) for name, path in config.checkpoints.given.items()}


def problems(config: StudyConfig) -> Hashes:
    """The user's file of problems, or the hub's data set; nothing where the problems are computed."""
    if config.traces.file is not None:
        return {"traces.file": _hash(Path(config.traces.file), config.traces.file)}
    if config.task.kind in BENCHMARKS:
        return {"task.kind": hub_commit(BENCHMARKS[config.task.kind].path, "dataset")}
    return {}


def lexicon(config: StudyConfig) -> Hashes:
    """The lexicon's file."""
    return {"traces.lexicon": _hash(BUNDLED / f"{config.traces.lexicon}.json", config.traces.lexicon)}


SOURCES: dict[str, Callable[[StudyConfig], Hashes]] = {"models": models, "problems": problems, "lexicon": lexicon}


def _hash(path: Path, given: str) -> str:
    path = path if path.exists() else Path(given)
    if not path.is_file():
        raise InterpError(f"{given}: no such file; give the path of one that exists")
    return file_digest(path)
