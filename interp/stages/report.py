"""Stage `report`: the page, its figures and `verdict.json`, drawn from the files of the other stages only."""

from __future__ import annotations

from pathlib import Path

import yaml

from interp.progress import bar
from interp.study import Study


def run(study: Study, out: Path) -> int:
    """Write the page; returns the number of files."""
    from interp.calibration.published import reliability
    from interp.report import render

    text = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False)
    with bar("drawing the page", 1) as progress:
        render(study.root, out, study.config.report.title, text, reliability(study))
        progress.advance()
    return sum(1 for path in out.rglob("*") if path.is_file())
