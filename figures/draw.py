"""Draw the figures of the README and `docs/` of a finished study: `.venv/bin/python figures/draw.py results/organism`.

That of the steering is the one that `interp steer dose` drew; that of the attention heads is the page that circuitsvis
draws, photographed by a Chromium where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from interp.report.figures.circuit import circuit
from interp.report.figures.noticing import noticing
from interp.report.figures.path import path
from interp.report.figures.reading import reading
from interp.report.figures.sites import sites
from interp.report.inputs import read_study
from interp.report.palette import house_style, save


def main(study: Path) -> None:
    """Write `circuit`, `noticing`, `path`, `reading`, `sites` and, where the study was steered, `doses_distilled`, as
    SVG and PNG, and `heads` as PNG, beside this script."""
    data, here = read_study(study), Path(__file__).parent
    with house_style():
        for draw in (circuit, noticing, path, reading, sites):
            drawing = draw(data)
            if drawing is not None:
                save(drawing, here)
    _photograph(study / "report" / "heads.html", here / "heads.png")
    for drawn in (study / "steering" / "figures").glob("doses_distilled.*"):
        shutil.copyfile(drawn, here / drawn.name)


def _photograph(page: Path, out: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or not page.is_file():
        print(f"{out.name}: not drawn, {page if chromium else 'a Chromium'} is missing")
        return
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
    size = ["--window-size=1280,1160", f"--screenshot={out}"]
    subprocess.run([chromium, *flags, *size, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
