"""What does one direction do to style, function, accuracy and length? Made, dosed, projected out, exported.

    .venv/bin/python experiments/steering.py experiments/configs/organism.yaml

Runs the stages of a study up to `activations` (`features` for a direction of latents) where they are not done, then
`interp steer make`, `dose`, `ablate` and `export`. For your own checkpoints name a config with `checkpoints` and
`traces.file`; its section `steering` says where the direction comes from (a behaviour's tokens, latents, or a file) and
where it acts. A killed run resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli import open_study, parse, run_script
from interp.steering import ACTIONS, run


@dataclass(frozen=True)
class Options:
    """What to steer."""

    config: Annotated[Path, tyro.conf.Positional]
    """YAML file of the study."""
    out: Path | None = None
    """Folder of the study; results/NAME unless given."""
    at: str | None = None
    """Tokens the direction is made at (inside, onset, forks, before); as the config says unless given."""
    file: Path | None = None
    """File of a direction, in the place of the study's own."""
    layer: int | None = None
    """Block of that direction, where the file does not say it."""
    actions: tuple[str, ...] = tuple(ACTIONS)
    """What to do, in this order."""


def words(options: Options) -> list[str]:
    """The options as the command `interp` takes them."""
    given: Sequence[tuple[str, object]] = (
        ("--out", options.out),
        ("--steering.at", options.at),
        ("--steering.source", "file" if options.file else None),
        ("--steering.file", options.file),
        ("--steering.layer", options.layer),
    )
    return [str(options.config), *(str(word) for pair in given if pair[1] is not None for word in pair)]


def main(options: Options) -> None:
    """Prepare the study, then make, dose, ablate and export."""
    given = words(options)
    source = parse(given)[0].config.steering.source
    study = open_study(*given, until="features" if source == "latents" else "activations")
    for action in options.actions:
        run(study, action)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
