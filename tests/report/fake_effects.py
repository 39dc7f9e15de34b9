"""Effects of a functional organism and the verdict on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .fake_files import HOSTILE, estimate, write_json, write_table
from .fake_traces import ACCURACY

UNTOUCHED = {
    "accuracy": 0.68,
    "marker_density": 5.1,
    "verification_rate": 0.36,
    "redone": 0.5,
    "revised": 0.9,
    "length": 39.2,
    "finished": 0.99,
    "repetition": 0.034,
}
WORDS, BAN, ECHO = "markers become neutral words", "markers banned", "repeated steps echo the first result"
BOTH = f"{WORDS}; {ECHO}"
ARMS = (WORDS, BAN, ECHO, BOTH)
"""The arms that the verdict is read from."""
CLAIMS = ("style removed, function kept", "function removed, style kept", "both removed")
CONTROLS = {
    WORDS: "other words become neutral words",
    BAN: "other words banned",
    ECHO: "the repeated result drawn anew",
    BOTH: "both controls at once",
}
FEWER = "fewer checks are begun (0.5 to 0.31 per text)"
"""What the ban did instead of what it claims."""
DOSES = (-0.2, -0.1, 0.1, 0.2)
SITES = ("resid_pre", "attn_out", "mlp_out")
HEADS = 4
REFUSED = "refused: clean and corrupt differ by -0.000 [-0.001, 0.001] nats, which may be 0"


def _effect(rng: random.Random, family: str, arm: str, outcome: str, value: float, **more: Any) -> dict[str, Any]:
    wide = {"accuracy": 0.022, "verification_rate": 0.04, "restored": 0.06, "repetition": 0.004}.get(outcome, 0.25)
    centre = rng.gauss(0, wide / 4)
    row = {
        "family": family,
        "arm": arm,
        "model": "distilled",
        "decoding": "sampled",
        "site": None,
        "layer": None,
        "head": None,
        "dose": None,
        "outcome": outcome,
        "untouched": UNTOUCHED.get(outcome),
        **estimate(value + rng.gauss(0, wide / 4), wide),
        "control_mean": centre,
        "control_low": centre - wide * 0.8,
        "control_high": centre + wide * 0.8,
        "control_name": "",
        "n_controls": 39,
        "p": None,
        "p_holm": None,
        "n_problems": 256 if family in ("latents", "steering") else 1024,
        "fired": 448,
        "coherent": True,
        "note": "",
    }
    return row | more


UNCONTROLLED = dict.fromkeys(("control_mean", "control_low", "control_high", "n_controls", "p", "p_holm"))
REMOVED = dict.fromkeys(("estimate", "low", "high", "untouched", *UNCONTROLLED))


def _everywhere(
    rng: random.Random, models: Sequence[str], family: str, arm: str, values: Sequence[float], **more: Any
) -> list[dict[str, Any]]:
    """An arm on its models, the distilled one's sampled rows first, which alone have controls."""
    rows = []
    for model in models:
        for decoding in ("sampled", "greedy"):
            own = model == "distilled" and decoding == "sampled"
            here = {"model": model, "decoding": decoding} | ({} if own else UNCONTROLLED)
            part = 1.0 if own else 0.3
            rows += [
                _effect(rng, family, arm, outcome, part * value, **more | here)
                for outcome, value in zip(UNTOUCHED, values, strict=True)
            ]
    return rows


def _free_running(rng: random.Random, models: Sequence[str]) -> list[dict[str, Any]]:
    """Removals and latent edits: change of each outcome."""
    latents = {"site": "resid_post", "layer": 1, "control_name": "12 random latents, matched"}
    latents["note"] = "matched at the edited places, controls / edit: frequency 0.98, size 0.99"
    alone = {"site": "resid_post", "layer": 1, "control_name": "none: it is a control itself"} | UNCONTROLLED
    improbable = {"coherent": False, "note": "perplexity x11.59"}
    failed = {"coherent": False, "note": FEWER}
    given = {"p": 0.025, "p_holm": 0.05}
    judged = [m for m in ("distilled", "base", "control") if m in models]
    removals = [
        ("style", WORDS, (-0.01, -5.0, -0.03, 0.0, 0.0, -0.2, 0.0, 0.0), {}),
        ("style", BAN, (-0.09, -5.0, -0.14, -0.19, 0.0, -0.4, 0.0, 0.0), failed),
        ("function", ECHO, (-0.21, 0.4, -0.36, 0.1, -0.9, 0.1, 0.0, 0.0), given),
        ("both", BOTH, (-0.22, -5.0, -0.36, 0.1, -0.9, -0.1, 0.0, 0.0), given),
    ]
    edits = [
        ("ablate reflection latents", (-0.02, -3.8, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0), latents),
        ("amplify reflection latents", (-0.01, 2.8, 0.0, 0.0, 0.0, 1.0, 0.0, 0.01), latents),
        ("ablate verification latents", (-0.14, -0.3, -0.22, -0.2, 0.0, -3.0, 0.0, 0.0), latents),
        ("amplify verification latents", (0.01, 0.2, 0.02, 0.1, 0.0, 3.0, 0.0, 0.02), latents),
        ("reconstruction only", (-0.03, 0.1, -0.02, 0.0, 0.0, 0.2, 0.0, 0.0), alone),
        ("error only", (-0.5, -4.0, -0.3, -0.4, 0.0, 9.0, -0.9, 0.1), alone | improbable),
    ]
    return [
        row
        for family, arm, values, more in removals
        for row in _everywhere(rng, judged, family, arm, values, control_name=CONTROLS[arm], **more)
    ] + [row for arm, values, more in edits for row in _everywhere(rng, ["distilled"], "latents", arm, values, **more)]


def _steering(rng: random.Random) -> list[dict[str, Any]]:
    sizes = (0.2, 6.0, 0.6, 0.8, 0.1, 20.0, -0.1, 0.01)
    rows = []
    for dose in DOSES:
        arm, ratio = f"add {dose:+g} of the behaviour's direction", 1.7 if dose > 0.15 else 1.1
        more = {"dose": dose, "site": "resid_post", "layer": 1, "control_name": "random directions, same norm"}
        more |= {} if ratio < 1.5 else {"coherent": False, "note": f"perplexity x{ratio:.2f}"}
        rows += _everywhere(rng, ["distilled"], "steering", arm, [size * dose for size in sizes], **more)
    return rows


def _patching(rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    given = {"decoding": None, "fired": None, "control_name": "random positions", "n_problems": 128}
    for arm, top in (("noising", 0.8), ("denoising", 0.5)):
        for layer in range(3):
            for site, part in zip(SITES, (1.0, 0.5, 0.3), strict=True):
                place = given | {"site": site, "layer": layer}
                sign = 1 if arm == "denoising" else -1
                value = top * part * (layer + 1) / 3
                rows.append(_effect(rng, "patching", arm, "log-probability", sign * value, **place, untouched=-1.2))
                rows.append(_effect(rng, "patching", arm, "restored", value, **place))
            for head in range(HEADS):
                place = given | {"site": "z", "layer": layer, "head": head}
                value = top * 0.1 * head * layer
                sign = 1 if arm == "denoising" else -1
                rows.append(_effect(rng, "patching", arm, "log-probability", sign * value, **place, untouched=-1.2))
                rows.append(_effect(rng, "patching", arm, "restored", value, **place))
    return rows


def write_causal(folder: Path, models: Sequence[str], rng: random.Random, hostile: bool) -> None:
    rows = [*_patching(rng), *_free_running(rng, models), *_steering(rng)]
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


def check(what: str, untouched: float | None, edited: float, problem: str, passed: bool = True) -> dict[str, Any]:
    return {"what": what, "untouched": untouched, "edited": edited, "passed": passed, "problem": problem}


def arm(claim: str, own: float, reading: str, **more: Any) -> dict[str, Any]:
    """One arm of `verdict.json`."""
    return {
        "claim": claim,
        "own": estimate(own, 0.02),
        "net": estimate(own + 0.002, 0.022),
        "beyond": estimate(own - 0.005, 0.024),
        "above_control": estimate(own + 0.001, 0.021),
        "control_drop": 0.005,
        "reading": reading,
        "why": "",
        "needed": None,
        "failed": [],
        "checks": [check("edits fired", None, 1448.0, "the edit never fired")],
    } | more


BARE = "it has no matched controls, so that any edit might cost as much"
"""Why a loss above the bound is no drop."""


def _verdict(models: Sequence[str], hostile: bool) -> dict[str, Any]:
    stayed = check("markers per 100 tokens", 5.1, 0.0, "markers stayed (5.1 to 0)")
    begun = check("steps worked again per text", 0.5, 0.31, FEWER, passed=False)
    arms = {
        WORDS: arm(CLAIMS[0], 0.010, "no drop", checks=[stayed]),
        BAN: arm(CLAIMS[0], 0.091, "drop", failed=[FEWER], checks=[stayed, begun]),
        ECHO: arm(CLAIMS[1], 0.212, "drop", control_drop=0.011),
        BOTH: arm(CLAIMS[2], 0.036, "undetermined", needed=2900, beyond=None, control_drop=None, why=BARE),
    }
    if hostile:
        arms["".join(HOSTILE)] = arm(HOSTILE[0], 0.1, HOSTILE[1], failed=[HOSTILE[0]], checks=[begun])
    return {
        "verdict": "functional",
        "truth": "functional",
        "why": HOSTILE[0]
        if hostile
        else "Nothing is lost without the markers, and accuracy falls without the verification they announce.",
        "bound": 0.05,
        "problems": 1024,
        "gain": estimate(0.25, 0.031),
        "gain_over_control": estimate(0.24, 0.03) if "control" in models else None,
        "mediated_fraction": estimate(0.024, 0.08),
        "read_from": dict(zip(CLAIMS, (WORDS, ECHO, BOTH), strict=True)),
        "arms": arms,
        "unlisted": [{"word": HOSTILE[0] if hostile else "aha", "z": 5.25, "problems": 0.125}],
        "coverage": 0.87,
        "perplexity": {"error only": 11.59},
        "models": {m: {"accuracy": estimate(ACCURACY[m], 0.03)} for m in models},
        "seed": 0,
    }
