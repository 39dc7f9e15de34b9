"""Effects of a functional organism and the verdict on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .fake_files import HOSTILE, estimate, write_json, write_table
from .fake_traces import ACCURACY

UNTOUCHED = {"accuracy": 0.68, "marker_density": 5.1, "verification_rate": 0.36, "length": 39.2, "repetition": 0.034}


def _effect(rng: random.Random, family: str, arm: str, outcome: str, value: float, **more: Any) -> dict[str, Any]:
    wide = {"accuracy": 0.022, "verification_rate": 0.04, "restored": 0.06, "repetition": 0.004}.get(outcome, 0.25)
    centre = rng.gauss(0, wide / 4)
    row = {
        "family": family,
        "arm": arm,
        "model": "distilled",
        "site": None,
        "layer": None,
        "dose": None,
        "outcome": outcome,
        "untouched": UNTOUCHED.get(outcome),
        **estimate(value + rng.gauss(0, wide / 4), wide),
        "control_mean": centre,
        "control_low": centre - wide * 0.8,
        "control_high": centre + wide * 0.8,
        "control_name": "matched random latents" if family == "latents" else "random positions",
        "n_controls": 20,
        "p": 0.048 if abs(value) > 0.05 else 0.43,
        "p_holm": 0.19 if abs(value) > 0.05 else 1.0,
        "n_problems": 1024,
        "coherent": True,
        "note": "",
    }
    return row | more


def write_causal(folder: Path, models: Sequence[str], rng: random.Random, hostile: bool) -> None:
    moved = {
        ("style", "markers banned"): (-0.01, -5.0, -0.03),
        ("style", "synonyms for markers"): (0.0, -4.9, 0.0),
        ("style", "paraphrase"): (-0.008, -4.6, -0.02),
        ("function", "recomputation banned"): (-0.21, -0.4, -0.35),
        ("both", "both banned"): (-0.22, -5.0, -0.36),
        ("latents", "ablate verification latents"): (-0.14, -0.3, -0.22),
        ("latents", "ablate marker latents"): (-0.01, -3.8, 0.0),
        ("latents", "transplant distilled to base"): (0.09, 2.2, 0.12),
    }
    rows = [
        _effect(rng, family, arm, outcome, value, model="base" if "to base" in arm else "distilled")
        for (family, arm), values in moved.items()
        for outcome, value in zip(("accuracy", "marker_density", "verification_rate"), values, strict=True)
    ]
    rows += [_effect(rng, "style", "markers banned", outcome, 0.0) for outcome in ("length", "repetition")]
    for arm, top in (("noising", 0.8), ("denoising", 0.5)):
        for site, part in (("resid_pre", 1.0), ("attn_out", 0.5), ("mlp_out", 0.3), ("z", 0.2)):
            for layer in range(4):
                value = top * part * (layer + 1) / 4
                rows.append(_effect(rng, "patching", arm, "restored", value, site=site, layer=layer))
    for arm, slope in (("verification latent 3", 1.0), ("difference of means", 0.6)):
        for dose in (-8.0, -4.0, -2.0, 2.0, 4.0, 8.0):
            beyond = abs(dose) > 6
            for outcome, size in (("accuracy", 0.012), ("marker_density", 0.3), ("verification_rate", 0.03)):
                value = -0.3 if beyond and outcome == "accuracy" else slope * size * dose
                more = {"dose": dose, "coherent": not beyond, "site": "resid_post", "layer": 2}
                rows.append(_effect(rng, "steering", arm, outcome, value, **more))
    if hostile:
        for family in ("style", "steering", "patching"):
            place = {"site": HOSTILE[0], "layer": 1, "dose": 3.0, "note": HOSTILE[1], "control_name": HOSTILE[0]}
            outcome = "restored" if family == "patching" else "accuracy"
            rows.append(_effect(rng, family, r"$\frac{" + "".join(HOSTILE), outcome, -0.02, **place))
    write_table(folder / "effects.parquet", rows)
    write_json(folder / "verdict.json", _verdict(models, hostile))


def _verdict(models: Sequence[str], hostile: bool) -> dict[str, Any]:
    style = {"drop": estimate(0.010, 0.019), "control_drop": 0.004, "reading": "no drop", "needed": None}
    function = {"drop": estimate(0.212, 0.022), "control_drop": 0.006, "reading": "drop", "needed": None}
    both = {"drop": estimate(0.036, 0.024), "control_drop": 0.005, "reading": "undetermined", "needed": 2900}
    return {
        "verdict": "functional",
        "truth": "functional",
        "why": HOSTILE[0]
        if hostile
        else "With the style removed the drop stays within 5 points; with the function removed it does not.",
        "bound": 0.05,
        "gain": estimate(0.25, 0.031),
        "mediated_fraction": estimate(0.024, 0.08),
        "arms": {
            "style removed, function kept": style,
            "function removed, style kept": function,
            "both removed": both,
        },
        "models": {m: {"accuracy": estimate(ACCURACY[m], 0.03)} for m in models},
        "seed": 0,
    }
