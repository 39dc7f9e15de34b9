"""What simpler instruments would have said of the same organisms, from the same runs: does accuracy run on style?

Each answers True, False, or None where it has nothing to say. None of them checks what its edit did, compares with
controls, takes the base's loss off, or looks at the other removals; that is what they are here to show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from interp.causal.setting import SAMPLED
from interp.causal.verdict import STYLISTIC, UNDETERMINED
from interp.names import BEHAVIOURS, EDITED

BAN, RECONSTRUCTION = "markers banned", "reconstruction only"
BOUND = 0.05
"""Largest loss that counted as none in this project's first verdict."""
Answer = Callable[[Mapping[str, Any], pl.DataFrame], bool | None]
"""(`verdict.json`, `effects.parquet`) to whether accuracy runs on style."""


def markers_counted(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """The model that reasons better writes more markers: their densities' intervals are apart."""
    base, distilled = (verdict["models"][name]["marker_density"] for name in ("base", EDITED))
    return bool(distilled["low"] > base["high"])


def ban_alone(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """Accuracy falls where markers are banned: the interval leaves 0 out."""
    return _falls(effects.filter(pl.col("arm") == BAN))


def latents_everywhere(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """Accuracy falls where the latents that fire most selectively inside a behaviour (by AUROC) are ablated at every
    position, for one behaviour at least."""
    return _falls(effects.filter(pl.col("arm").is_in([f"ablate {name} latents" for name in BEHAVIOURS])))


def reconstructed(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """Accuracy falls where the residual is replaced by its reconstruction from a dictionary, which is what an ablation
    of latents does that does not keep the error; here without even one latent ablated."""
    return _falls(effects.filter(pl.col("arm") == RECONSTRUCTION))


def first_verdict(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """This project's verdict as it was at first: the ban's loss less the mean of its controls', above the bound or
    below it, without a check of what the ban did, the base's loss or any other way to remove the style."""
    for row in _accuracy(effects.filter(pl.col("arm") == BAN)).iter_rows(named=True):
        beyond = row["control_mean"] or 0.0
        if row["low"] is not None and beyond - row["high"] > BOUND:
            return True
        if row["low"] is not None and beyond - row["low"] < BOUND:
            return False
    return None


def _falls(arms: pl.DataFrame) -> bool | None:
    highs = _accuracy(arms)["high"].drop_nulls()
    return bool((highs < 0).any()) if len(highs) else None


def _accuracy(arms: pl.DataFrame) -> pl.DataFrame:
    mine = (pl.col("outcome") == "accuracy") & (pl.col("model") == EDITED) & (pl.col("decoding") == SAMPLED)
    return arms.filter(mine)


def by_text(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """The verdict by edits of text."""
    return of_word(verdict["verdict"])


def by_circuit(verdict: Mapping[str, Any], effects: pl.DataFrame) -> bool | None:
    """The verdict through the circuit."""
    return of_word(verdict["circuit"]["verdict"])


def of_word(word: str) -> bool | None:
    """What a verdict, or a truth, says of style; nothing where it is open."""
    return None if word == UNDETERMINED else word == STYLISTIC


INSTRUMENTS: dict[str, Answer] = {
    "markers counted": markers_counted,
    "ban alone": ban_alone,
    "latents by AUROC, everywhere": latents_everywhere,
    "reconstruction for an edit": reconstructed,
    "the first verdict": first_verdict,
    "verdict by text": by_text,
    "verdict through the circuit": by_circuit,
}
"""A new instrument is one function and one entry."""


def answers(verdict: Mapping[str, Any], effects: pl.DataFrame) -> dict[str, bool | None]:
    """What every instrument says of one study."""
    return {name: answer(verdict, effects) for name, answer in INSTRUMENTS.items()}
