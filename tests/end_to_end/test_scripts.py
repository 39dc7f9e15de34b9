"""The scripts that run a study: on one that is done they print what it found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.end_to_end.conftest import CONFIG
from tests.scripts import load_script


def test_style_patching_prints_the_removals_the_verdict_and_the_strongest_patches(
    study: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "tiny")
    study, script = tmp_path / "tiny", load_script("style_patching")
    script.main(script.Options(CONFIG, study, patches=2))
    said = capsys.readouterr().out
    verdict = json.loads((study / "causal" / "verdict.json").read_text())
    for name, arm in verdict["arms"].items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"| {name} |")]
        assert f"{100 * arm['own']['estimate']:.1f}".replace("-", "−") in line
    assert f"Verdict: {verdict['verdict']} (truth: functional)." in said
    assert (study / "style_patching.md").read_text() in said
    effects = pl.read_parquet(study / "causal" / "effects.parquet").filter(outcome="restored")
    assert len(effects) == 2 * 2 * (3 + 4), "two arms; in two blocks three sites and four heads"
    known = effects.drop_nulls("estimate")
    lines = [line for line in said.splitlines() if line.startswith(("| noising |", "| denoising |"))]
    assert len(lines) == sum(min(2, len(group)) for _, group in known.group_by("arm"))
    if not len(known):
        assert "Patches of the style tokens: refused" in said


def test_the_strongest_patches_are_listed_first_and_heads_by_number() -> None:
    script = load_script("style_patching")
    shared = {"family": "patching", "outcome": "restored", "low": 0.0, "high": 1.0, "control_low": -0.1}
    rows = [
        {"arm": arm, "site": site, "layer": layer, "head": head, "estimate": value, "control_high": 0.1, "note": ""}
        for arm, site, layer, head, value in (
            ("noising", "z", 1, 3, 0.25),
            ("noising", "resid_pre", 2, None, 0.75),
            ("noising", "mlp_out", 0, None, 0.5),
            ("denoising", "z", 0, 0, -0.5),
        )
    ]
    text = script.strongest(pl.DataFrame([shared | row for row in rows]), 2)
    assert text.splitlines()[2:] == [
        "| noising | resid_pre of block 2 | 0.75 [0.00, 1.00] | -0.10 to 0.10 |",
        "| noising | mlp_out of block 0 | 0.50 [0.00, 1.00] | -0.10 to 0.10 |",
        "| denoising | z of block 0 head 0 | -0.50 [0.00, 1.00] | -0.10 to 0.10 |",
    ]
    assert "none" in script.strongest(pl.DataFrame([shared | row for row in rows]).clear(), 2)
