"""Draw the figures that the README shows from a finished study: `.venv/bin/python figures/draw.py results/organism`."""

from __future__ import annotations

import sys
from pathlib import Path

from interp.report.figures.models import outcomes
from interp.report.figures.reading import reading
from interp.report.inputs import read_study
from interp.report.palette import house_style, save


def main(study: Path) -> None:
    """Write `outcomes` and `reading`, as SVG and PNG, beside this script."""
    data = read_study(study)
    with house_style():
        for draw in (outcomes, reading):
            drawing = draw(data)
            if drawing is not None:
                save(drawing, Path(__file__).parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
