"""A study: a config, and the folder its stages are written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interp.config import StudyConfig


@dataclass(frozen=True)
class Study:
    """A config and the folder its stages are written to."""

    config: StudyConfig
    root: Path

    def folder(self, stage: str) -> Path:
        """Where a stage's output is, whether or not it has been written."""
        return self.root / stage
