"""The demo itself, on two kinds of organism: slow, and what the project stands on. Each runs on one thread, so that two
cores take both at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from interp.causal.arms import REMOVALS
from tests.end_to_end.conftest import interp

CONFIG = Path(__file__).parents[2] / "experiments" / "configs" / "organism.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["functional", "decorative"])
def test_the_verdict_is_the_truth(kind: str, tmp_path: Path) -> None:
    out = tmp_path / kind
    # The fewest controls and no nulls: the verdict rests on the removals of text, which are run whole.
    fewer = ("--causal.controls", "20", "--causal.latent_control_problems", "16", "--causal.patch_layers", "[1]")
    fewer += ("--crosscoder.null_steps", "0")
    fewer += ("--seed", "0", "--threads", "1")  # another seed than the demo's, which everyone runs
    done = interp("study", CONFIG, "--out", out, "--organism.kind", kind, *fewer, timeout=2400)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((out / "report" / "verdict.json").read_text())
    assert verdict["verdict"] == verdict["truth"] == kind, verdict["why"]
    models = verdict["models"]
    base = models["base"]["accuracy"]
    for better in ("distilled", "zero_rl"):
        assert models[better]["accuracy"]["low"] > base["high"]
    assert models["distilled"]["marker_density"]["low"] > models["zero_rl"]["marker_density"]["high"] + 0.5
    assert {*verdict["read_from"]} == {*REMOVALS}
    assert all(not verdict["arms"][name]["failed"] for name in verdict["read_from"].values())
    assert verdict["gain_over_control"]["low"] > 0
    assert verdict["coverage"] > 0.5
    families = set(pl.read_parquet(out / "causal" / "effects.parquet")["family"])
    assert families >= {"patching", "style", "function", "both", "latents", "steering"}
    _is_located_where_planted(verdict["circuit"], kind)
    _last_reward_agrees(out, models["zero_rl"]["accuracy"])
    seconds = sum(json.loads(path.read_text())["wall_seconds"] for path in out.glob("*/manifest.json"))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{kind}: {seconds:.0f} s, {size / 1e6:.0f} MB")
    assert size < 300e6


def _is_located_where_planted(circuit: dict[str, Any], kind: str) -> None:
    """A few deciding latents take repairs below a quarter where the work matters; nothing is found where it does not.
    What the circuit then says of the whole is the truth, or nothing."""
    assert circuit["verdict"] in (kind, "undetermined"), circuit["verdict_why"]
    assert circuit["latents"]["wording"] == [] and circuit["located"] is (kind == "functional")
    if kind == "decorative":
        assert circuit["latents"]["deciding"] == [] and circuit["repairs"] is None
        return
    # How many there are is the organism's, and another processor trains another one; seeds are counted in calibration.
    assert 1 <= len(circuit["latents"]["deciding"]) <= 8
    repairs, controls = circuit["repairs"], circuit["matched_controls"]
    assert repairs["ablated"] < 0.25 * repairs["untouched"] and repairs["ablated"] < controls["low"]
    assert controls["n"] == 20 and controls["p"] == pytest.approx(1 / 21)


def _last_reward_agrees(out: Path, accuracy: dict[str, float]) -> None:
    """GRPO's last reward, over 256 completions of 32 problems, and the project's own accuracy at the same
    temperature: their intervals meet. The reward's comes from the spread over the last ten updates."""
    curve = pl.read_parquet(out / "checkpoints" / "training.parquet").filter(pl.col("metric") == "reward").sort("step")
    last = curve["value"].tail(10)
    half = 1.96 * float(last.std())  # type: ignore[arg-type]
    assert accuracy["low"] <= last[-1] + half
    assert accuracy["high"] >= last[-1] - half
