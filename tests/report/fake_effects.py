"""Effects of a functional organism and the verdict on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .fake_files import HOSTILE, estimate, write_json, write_table
from .fake_traces import ACCURACY

UNTOUCHED = {"accuracy": 0.68, "marker_density": 5.1, "verification_rate": 0.36, "length": 39.2, "repetition": 0.034}


CONTROLS = {
    "style": "ban of random other words",
    "function": "the recomputed result drawn anew",
    "both": "both controls at once",
    "latents": "12 random latents matched in frequency and norm",
    "steering": "random directions, same norm",
    "patching": "random positions",
}
REMOVALS = ("style removed, function kept", "function removed, style kept", "both removed")
DOSES = (-0.2, -0.1, 0.1, 0.2)
SITES = ("resid_pre", "attn_out", "mlp_out")
REFUSED = "refused: clean and corrupt differ by -0.000 [-0.001, 0.001] nats, which may be 0"


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
        "control_name": CONTROLS[family],
        "n_controls": 20,
        "p": 0.048 if abs(value) > 0.05 else 0.43,
        "p_holm": 0.19 if abs(value) > 0.05 else 1.0,
        "n_problems": 256 if family in ("latents", "steering") else 1024,
        "coherent": True,
        "note": "",
    }
    return row | more


UNCONTROLLED = {
    "control_mean": None,
    "control_low": None,
    "control_high": None,
    "control_name": "none: it is a control itself",
    "n_controls": 0,
    "p": None,
    "p_holm": None,
}
REMOVED = dict.fromkeys(("estimate", "low", "high", "untouched", *UNCONTROLLED))


def _free_running(rng: random.Random) -> list[dict[str, Any]]:
    """Removals and latent edits: change of accuracy, marker density, verification rate, length and repetition."""
    after_block = {"site": "resid_post", "layer": 1}
    moved = [
        ("style", REMOVALS[0], (-0.01, -5.0, -0.03, -0.2, 0.0), {}),
        ("function", REMOVALS[1], (-0.21, -0.4, -0.35, 0.1, 0.0), {}),
        ("both", REMOVALS[2], (-0.22, -5.0, -0.36, -0.1, 0.0), {}),
        ("latents", "ablate reflection latents", (-0.02, -3.8, 0.0, -1.0, 0.0), after_block),
        ("latents", "amplify reflection latents", (-0.01, 2.8, 0.0, 1.0, 0.01), after_block),
        ("latents", "ablate verification latents", (-0.14, -0.3, -0.22, -3.0, 0.0), after_block),
        ("latents", "amplify verification latents", (0.01, 0.2, 0.02, 3.0, 0.02), after_block),
        ("latents", "reconstruction only", (-0.03, 0.1, -0.02, 0.2, 0.0), after_block | UNCONTROLLED),
        ("latents", "error only", (-0.5, -4.0, -0.3, 9.0, 0.1), after_block | UNCONTROLLED),
    ]
    return [
        _effect(rng, family, arm, outcome, value, **more)
        for family, arm, values, more in moved
        for outcome, value in zip(UNTOUCHED, values, strict=True)
    ]


def _steering(rng: random.Random) -> list[dict[str, Any]]:
    sizes = {"accuracy": 0.2, "marker_density": 6.0, "verification_rate": 0.6, "length": 20.0, "repetition": 0.01}
    rows = []
    for dose in DOSES:
        arm, ratio = f"add {dose:+g} of the behaviour's direction", 1.7 if dose > 0.15 else 1.1
        more = {"dose": dose, "site": "resid_post", "layer": 1, "coherent": ratio < 1.5}
        more["note"] = f"perplexity x{ratio:.2f}"
        rows += [_effect(rng, "steering", arm, outcome, size * dose, **more) for outcome, size in sizes.items()]
    return rows


def _patching(rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for arm, top in (("noising", 0.8), ("denoising", 0.5)):
        for layer in range(3):
            for site, part in zip(SITES, (1.0, 0.5, 0.3), strict=True):
                place = {"site": site, "layer": layer, "n_problems": 128}
                sign = 1 if arm == "denoising" else -1
                raw = {"untouched": -1.2, "p": 0.048, "p_holm": 0.857}
                value = top * part * (layer + 1) / 3
                rows.append(_effect(rng, "patching", arm, "log-probability", sign * value, **place, **raw))
                rows.append(_effect(rng, "patching", arm, "restored", value, **place))
    return rows


def write_causal(folder: Path, models: Sequence[str], rng: random.Random, hostile: bool) -> None:
    rows = [*_patching(rng), *_free_running(rng), *_steering(rng)]
    if hostile:
        for family in ("style", "steering", "patching"):
            place = {"site": HOSTILE[0], "layer": 1, "dose": 3.0, "note": HOSTILE[1], "control_name": HOSTILE[0]}
            outcome = "restored" if family == "patching" else "accuracy"
            rows.append(_effect(rng, family, r"$\frac{" + "".join(HOSTILE), outcome, -0.02, **place))
    write_table(folder / "effects.parquet", rows)
    write_json(folder / "verdict.json", _verdict(models, hostile))


def refuse_patching(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same effects where the marker makes no difference: no share restored."""
    return [row | REMOVED | {"note": REFUSED} if row["outcome"] == "restored" else row for row in rows]


def _verdict(models: Sequence[str], hostile: bool) -> dict[str, Any]:
    style = {"drop": estimate(0.010, 0.019), "control_drop": 0.004, "reading": "no drop", "needed": None}
    function = {"drop": estimate(0.212, 0.022), "control_drop": 0.006, "reading": "drop", "needed": None}
    both = {"drop": estimate(0.036, 0.024), "control_drop": 0.005, "reading": "undetermined", "needed": 2900}
    return {
        "verdict": "functional",
        "truth": "functional",
        "why": HOSTILE[0]
        if hostile
        else "Nothing is lost without the markers, and accuracy falls without the verification they announce.",
        "bound": 0.05,
        "problems": 1024,
        "gain": estimate(0.25, 0.031),
        "mediated_fraction": estimate(0.024, 0.08),
        "arms": dict(zip(REMOVALS, (style, function, both), strict=True)),
        "models": {m: {"accuracy": estimate(ACCURACY[m], 0.03)} for m in models},
        "seed": 0,
    }
