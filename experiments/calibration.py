"""Does the instrument read organisms rightly whose truth is known? Every kind, every seed, verdict beside truth.

    .venv/bin/python experiments/calibration.py --kinds functional coupled --seeds 0 1

Each study goes to `results/calibration/KIND-SEED` and is skipped if it is there; the table is printed and kept as
`results/calibration/verdicts.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tyro

from interp.cli import prepare
from interp.config import check_config, load_config
from interp.features.circuit import OF_THE_DECISION
from interp.organisms.documents import PLANTED
from interp.pipeline import run_study
from interp.study import Study


@dataclass(frozen=True)
class Options:
    """Which organisms to read."""

    kinds: tuple[str, ...] = ("functional", "coupled", "decorative", "gated", "plain")
    """Kinds of organism."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each kind; everything random follows them."""
    config: Path = Path("experiments/configs/organism.yaml")
    """Study that each of them varies."""
    out: Path = Path("results/calibration")
    """Folder of the studies and the table."""


def read_organism(options: Options, kind: str, seed: int) -> dict[str, Any]:
    """Run one study, or find it done, and take its row of the table."""
    raw = load_config(options.config).model_dump(mode="json")
    raw["organism"]["kind"], raw["seed"] = kind, seed
    study = Study(check_config(raw, f"{kind}-{seed}"), options.out / f"{kind}-{seed}")
    prepare(study.config)
    run_study(study)
    verdict = json.loads((study.folder("report") / "verdict.json").read_text())
    drops = {name: arm["own"] for name, arm in verdict["arms"].items()}
    accuracy = {name: numbers["accuracy"]["estimate"] for name, numbers in verdict["models"].items()}
    return {
        "kind": kind,
        "seed": seed,
        "truth": verdict["truth"],
        "verdict": verdict["verdict"],
        **_circuit(verdict["circuit"]),
        **{f"accuracy_{name}": value for name, value in accuracy.items()},
        **{f"loss, {name}": f"{d['estimate']:.3f} [{d['low']:.3f}, {d['high']:.3f}]" for name, d in drops.items()},
    }


def _circuit(found: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict through the circuit, and what of it is located."""
    repairs, controls = found["repairs"] or {}, found["matched_controls"] or {}
    latents = {name: len(chosen) for name, chosen in found["latents"].items()}
    told = f"{repairs['untouched']:.3f} to {repairs['ablated']:.3f}" if repairs else ""
    beside = f"{controls['low']:.3f} to {controls['high']:.3f}" if controls else ""
    return {"circuit": found["verdict"], **latents, "repairs": told, "under matched latents": beside}


def main(options: Options) -> None:
    """Fill the table and print it."""
    rows = [read_organism(options, kind, seed) for kind in options.kinds for seed in options.seeds]
    table = pl.DataFrame(rows)
    table.write_parquet(options.out / "verdicts.parquet")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
        print(table)
    right = table.filter(pl.col("truth") == pl.col("verdict"))
    print(f"{len(right)} of {len(table)} verdicts equal the truth")
    planted = pl.col("kind").replace_strict(PLANTED, default=None)
    found = table.filter(*(planted.eq_missing(name) == (pl.col(name) > 0) for name in OF_THE_DECISION))
    print(f"latents of {len(found)} of {len(table)} are located where they were planted and nowhere else")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
