"""A crosscoder and its latents, with a few that lean to one model and a few that follow a behaviour."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .fake_files import HOSTILE, write_json, write_table


def write_crosscoder(folder: Path, models: Sequence[str], rng: random.Random, n_latents: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for step in range(0, 3000, 100):
        fve = {f"fve_{m}": 0.9 - 0.02 * at - 0.7 / (1 + step / 150) for at, m in enumerate(models)}
        learnt = 1 / (1 + step / 400)
        rows.append({"step": step, "loss": learnt, **fve, "l0": 24 + rng.gauss(0, 0.2), "dead": 0.2 * learnt})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fve = {m: 0.88 - 0.02 * at for at, m in enumerate(models)}
    about: dict[str, Any] = {"fve": fve, "l0": 23.8, "k": 24, "dead": 0.031, "n_latents": n_latents, "rows": 65536}
    arm = {"loss": 1.31, "kl": 0.021, "loss_recovered": 0.977}
    models = {name: {"untouched_loss": 1.29, "n_tokens": 5120, "arms": {"spliced": arm}} for name in fve}
    about |= {"rows_held_out": 3277, "rows_not_finite": 1, "rows_outlying": 4, "spliced": models}
    write_json(folder / "evaluation.json", about)


def write_features(folder: Path, models: Sequence[str], rng: random.Random, n_latents: int, hostile: bool) -> None:
    write_table(folder / "latents.parquet", [_latent(j, models, rng) for j in range(n_latents)])
    words = [
        "4",
        "+",
        "7",
        "=",
        "1",
        ";",
        "wait",
        ",",
        "4",
        "+",
        "7",
        "=",
        "1",
        "####",
        "hmm",
        "check",
        "9",
        "-",
        "3",
        "=",
        "6",
    ]
    rows = []
    for j in range(n_latents):
        for model in models:
            for rank in range(3 if (j + len(model)) % 7 else 0):
                tokens = [rng.choice(words) + rng.choice(("", " ")) for _ in range(24)]
                if hostile:
                    tokens[: len(HOSTILE)] = HOSTILE
                near = rng.randrange(24)
                fired = [max(0.0, 3.0 - rank - abs(near - at) + rng.gauss(0, 0.6)) for at in range(24)]
                peak = max(range(24), key=fired.__getitem__)
                row = {"latent": j, "model": model, "rank": rank, "tokens": tokens, "activations": fired}
                rows.append(row | {"peak": peak, "problem": HOSTILE[0] if hostile else f"Q 4 + {rank} A"})
    write_table(folder / "examples.parquet", rows)


def write_heads(folder: Path, hostile: bool) -> None:
    """A circuit of which nothing is said, and what two of its heads look at."""
    write_json(folder / "circuit.json", {"deciding": {"located": False, "why": "not sought", "latents": []}})
    write_table(folder / "heads.parquet", list(_heads(hostile)))


def _heads(hostile: bool) -> Iterator[dict[str, Any]]:
    """Two heads on one pair of texts: the second token attends to both in other shares on either side."""
    tokens = list(HOSTILE) if hostile else ["…", " 5", " ="]
    for side, share in (("positive", 0.12345), ("negative", 0.75)):
        for layer, effect in ((2, 8.14), (1, 0.3)):
            pattern = [[float(i == j) for j in range(len(tokens))] for i in range(len(tokens))]
            pattern[1][:2] = [share, 1 - share]
            at = {
                "class": "deciding",
                "side": side,
                "layer": layer,
                "head": 3,
                "effect": effect,
            }
            yield at | {"tokens": tokens, "attention": pattern}


def _latent(j: int, models: Sequence[str], rng: random.Random) -> dict[str, Any]:
    weights = [rng.uniform(0.7, 1.3) for _ in models]
    if j % 6 == 0:
        weights[(j // 6) % len(models)] *= 12
    share = {m: w / sum(weights) for m, w in zip(models, weights, strict=True)}
    leaning = max(share.values()) > 0.7
    owner = max(share, key=share.__getitem__)
    nu = (rng.uniform(0, 0.4), rng.uniform(0.1, 0.8)) if leaning else (rng.uniform(0.4, 1.6), rng.uniform(0.5, 1.3))
    rate = 10 ** rng.uniform(-4, -0.7)
    row: dict[str, Any] = {"latent": j, "firing_rate": rate, "decoder_norm": rng.uniform(1, 4)}
    row |= {f"specificity_{m}": s for m, s in share.items()}
    row |= {
        "exclusive_to": owner if leaning and nu[0] < 0.2 and nu[1] < 0.5 else None,
        "exclusive_by_norm": owner if leaning else None,
        "nu_error_max": nu[0],
        "nu_recon_max": nu[1],
        "cosine_min": rng.uniform(0.1, 1),
    }
    row |= {f"rate_{m}": min(1.0, rate * rng.lognormvariate(0, 0.6)) for m in models}
    row |= {f"mean_{m}": rng.uniform(0, 0.2) for m in models}
    chosen = j % 11 == 3
    for b in ("reflection", "verification"):
        yes = chosen and (b == "reflection") == (j % 2 == 0)
        at = rng.uniform(0.8, 0.95) if yes else rng.gauss(0.5, 0.06)
        row |= {f"auroc_{b}": at, f"auroc_confirm_{b}": at - 0.01, f"d_{b}": 6 * (at - 0.5)}
        row |= {f"q_{b}": 0.0004 if yes else rng.uniform(0.1, 1), f"confirmed_{b}": yes}
    kind = ("behaviour latent" if j % 3 else "token latent") if chosen else "unconfirmed" if j % 13 == 1 else ""
    strength = rng.uniform(1, 3)
    return row | {
        "inside": strength if chosen else float("nan"),
        "at_own": strength * (1.1 if kind == "token latent" else 0.2) if chosen else float("nan"),
        "at_markers": 0.01 * (j + 1) if chosen else float("nan"),
        "at_others": 0.02 * (j + 1) if chosen else float("nan"),
        "at_places": 0.03 * (j + 1) if chosen else float("nan"),
        "paraphrased": 0.875 if chosen else float("nan"),
        "auroc_marker": rng.uniform(0.85, 0.98) if kind == "token latent" else rng.gauss(0.5, 0.08),
        "kind": kind,
    }
