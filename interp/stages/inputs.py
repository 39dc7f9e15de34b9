"""What a stage reads from outside the study, as hashes: the user's files and checkpoints."""

from __future__ import annotations

from pathlib import Path

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.folders import digest, file_digest
from interp.stages.problems import test_problems
from interp.traces.lexicon import BUNDLED, load_lexicon


def outside_inputs(stage: str, config: StudyConfig) -> dict[str, str]:
    """Name to hash of every outside input of a stage."""
    if stage == "checkpoints":
        return {f"checkpoints.{name}": _checkpoint_digest(path) for name, path in config.checkpoints.given.items()}
    if stage in ("traces", "causal"):
        return _files(config)
    return {}


def check_inputs(config: StudyConfig) -> None:
    """Read every file, folder and set of problems the config names, so that a bad one is refused before hours of work.

    Raises:
        InterpError: one is missing or not of its form.
    """
    outside_inputs("checkpoints", config)
    outside_inputs("traces", config)
    load_lexicon(config.traces.lexicon)
    test_problems(config)


def _files(config: StudyConfig) -> dict[str, str]:
    hashes = {"traces.lexicon": _existing(BUNDLED / f"{config.traces.lexicon}.json", config.traces.lexicon)}
    if config.traces.file is not None:
        hashes["traces.file"] = _existing(Path(config.traces.file), config.traces.file)
    return hashes


def _existing(path: Path, given: str) -> str:
    path = path if path.exists() else Path(given)
    if not path.is_file():
        raise InterpError(f"{given}: no such file; give the path of one that exists")
    return file_digest(path)


def _checkpoint_digest(path: str) -> str:
    """Names, sizes and times of a local folder's files; reading gigabytes of weights at every start would be worse."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return path
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return digest([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
