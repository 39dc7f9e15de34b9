"""What the stage `sites` leaves: whether four models notice injected errors, and where their decision can be read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from .fake_files import HOSTILE, write_json, write_table

MEASURES = {
    "checks_wrong": "begins to check after a wrong step",
    "checks_right": "begins to check after a right step",
    "repaired": "mends the wrong step",
    "correct_wrong": "right answer after a wrong step",
    "correct_right": "right answer after a right step",
    "variation": "total variation of the next token, wrong against right",
}
NOTICED = {
    "base": (0.041, 0.012, 0.023, 0.447, 0.641, 0.052),
    "distilled": (0.706, 0.034, 0.694, 0.651, 0.882, 0.989),
    "zero_rl": (0.118, 0.006, 0.097, 0.662, 0.953, 0.314),
    "control": (0.015, 0.008, 0.009, 0.438, 0.654, 0.021),
}
"""Shares, each another, in the order of MEASURES."""
TEXTS = {"base": 510, "distilled": 508, "zero_rl": 512, "control": 511}
SITES = ("attn_out", "resid_mid", "mlp_out", "resid_post")
LAYERS = 3
CONTRASTS = {"wrong / right": 260, "onset / fork": 110}
"""The scanned ones, with their held-out pairs."""
HEIGHT = {"base": 0.58, "distilled": 0.97, "zero_rl": 0.7, "control": 0.63}
"""AUROC that each model comes to in the last block."""
CHOSEN, WHY = {"layer": 2, "name": "resid_mid"}, "wrong / right can be read at blocks.2.hook_resid_mid: AUROC 0.951"


def write_sites(folder: Path, models: Sequence[str], hostile: bool, layers: int = LAYERS) -> None:
    rng = random.Random(11)  # its own: the numbers of the other files stay as they are
    noticed = [
        {"model": m, "measure": name, "says": says, "n": TEXTS[m]}
        | {"estimate": value, "low": value - 0.1 * value, "high": value + 0.1 * (1 - value)}
        for m in models
        for (name, says), value in zip(MEASURES.items(), NOTICED[m], strict=True)
    ]
    write_table(folder / "noticed.parquet", noticed)
    rows = [
        _row(rng, m, layer, site, contrast, layers)
        for m in models
        for contrast in CONTRASTS
        for layer in range(layers)
        for site in SITES
    ]
    write_table(folder / "sites.parquet", rows)
    tokens = list(HOSTILE)
    site = {
        "read": CHOSEN,
        "chosen": CHOSEN,
        "contrast": "wrong / right",
        "why": "".join(HOSTILE) if hostile else WHY,
        "margin": {
            "onset": tokens if hostile else ["Ġwait", ","],
            "other": tokens if hostile else [";"],
            "onset_share": 0.944,
            "other_share": 0.967,
        },
        "pairs": {"wrong / right": 250, "onset / fork": 105, "marker / neutral": 39},
    }
    write_json(folder / "site.json", site)


def _row(rng: random.Random, model: str, layer: int, site: str, contrast: str, layers: int) -> dict:
    """Patches of the distilled model alone: one beyond each end of the axis, none at `attn_out` of `onset / fork`."""
    depth = (layer + (SITES.index(site) + 1) / len(SITES)) / layers
    auroc = 0.5 + (HEIGHT[model] - 0.5) * depth + rng.uniform(-0.01, 0.01)
    share = depth if site.startswith("resid") else 0.1 * depth
    noising, denoising = share, 0.9 * share + 0.04
    if (contrast, layer, site) == ("wrong / right", 0, "attn_out"):
        noising, denoising = -0.42, 1.63
    patched = model == "distilled" and (contrast, site) != ("onset / fork", "attn_out")
    return {
        "model": model,
        "layer": layer,
        "site": site,
        "contrast": contrast,
        "auroc": auroc,
        "low": auroc - 0.031,
        "high": min(1.0, auroc + 0.024),
        "shuffled": rng.uniform(0.45, 0.55),
        "noising": noising if patched else None,
        "denoising": denoising if patched else None,
        "fitted": 250,
        "held_out": CONTRASTS[contrast],
    }
