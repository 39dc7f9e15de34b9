"""Does the performance run on the style? The whole causal study of a trio: patches, removals, latents, and the verdict.

    .venv/bin/python experiments/style_patching.py experiments/configs/organism.yaml

Runs the stages of a study up to `causal` where they are not done: style tokens are patched between clean and corrupt
runs, the style, the function and both are taken away in free-running text beside matched controls, latents are ablated
and amplified, and a direction is added. Prints the removals with their checks, and the verdict. For your own
checkpoints name a config with `checkpoints` and `traces.file`. A killed run resumes at the last run or patch.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import tyro

from interp.cli import open_study, run_script
from interp.disk import replacing
from interp.report.removals import removals


@dataclass(frozen=True)
class Options:
    """What to study."""

    config: Annotated[Path, tyro.conf.Positional]
    """YAML file of the study."""
    out: Path | None = None
    """Folder of the study; results/NAME unless given."""
    patches: int = 6
    """Components printed of each direction of patching, those that carry most first."""


def main(options: Options) -> None:
    """Run what is missing, print, and keep what is printed as `style_patching.md` in the study's folder."""
    out = () if options.out is None else ("--out", str(options.out))
    study = open_study(options.config, *out, until="causal")
    folder = study.folder("causal")
    verdict = json.loads((folder / "verdict.json").read_text())
    effects = pl.read_parquet(folder / "effects.parquet", glob=False)
    text = f"# {study.config.name}\n\n{removals(verdict)}\n{strongest(effects, options.patches)}"
    path = study.root / "style_patching.md"
    with replacing(path, ".md") as draft:
        draft.write_text(text)
    print(f"{text}\n{path}; every run is in {folder / 'runs'}, every patch in {folder / 'patches'}")


def strongest(effects: pl.DataFrame, n: int) -> str:
    """What the style tokens' places carry to what follows them: the share restored, beside random positions."""
    rows = effects.filter(pl.col("family") == "patching", pl.col("outcome") == "restored")
    known = rows.filter(pl.col("estimate").is_not_null())
    if not len(known):
        why = rows["note"].drop_nulls().unique(maintain_order=True).to_list()
        return f"Patches of the style tokens: {why[0] if why else 'none; too few texts hold a marker'}.\n"
    lines = ["| patching | place | restored | random positions |", "| --- | --- | --- | --- |"]
    for _, group in known.group_by("arm", maintain_order=True):
        for row in group.sort("estimate", descending=True).head(n).iter_rows(named=True):
            head = "" if row["head"] is None else f" head {row['head']}"
            share = f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            band = f"{row['control_low']:.2f} to {row['control_high']:.2f}"
            lines.append(f"| {row['arm']} | {row['site']} of block {row['layer']}{head} | {share} | {band} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
