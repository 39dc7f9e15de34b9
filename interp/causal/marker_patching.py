"""Patching at markers: what each place of the model carries from a marker to what follows it, as rows of effects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interp.causal.effects import control_columns, number
from interp.causal.pairs import Pair
from interp.causal.patching import SITES, hook_name, patch, positions_mask, random_positions, read_beginning, run_side
from interp.statistics import Bootstrap, sign_p

TOGETHER = 64
"""Pairs that are run together, fewer where their logits would take more than BYTES."""
BYTES = 2 * 10**9


@dataclass
class _Place:
    """The change of the metric under one patch, over all pairs so far."""

    into: list[np.ndarray] = field(default_factory=list)
    change: list[np.ndarray] = field(default_factory=list)
    controls: list[np.ndarray] = field(default_factory=list)
    """[draws, pairs] of each batch."""


def patching_rows(
    bridge: Any,
    pairs: Sequence[Pair],
    layers: Sequence[int],
    model: str,
    draws: int,
    resamples: int,
    seed: int,
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Noising and denoising at the marker by layer and site; controls patch as many random positions.

    Two rows a place: the change of the continuation's log-probability (nats), and the share `restored`.
    """
    rng = np.random.default_rng(seed)
    places: dict[tuple[str, int, str], _Place] = defaultdict(_Place)
    gaps: list[np.ndarray] = []
    for batch in batches(pairs, bridge.cfg.d_vocab):
        gaps.append(_patch_batch(bridge, batch, layers, draws, rng, places, advance))
    bootstrap, gap = Bootstrap(len(pairs), resamples, seed), np.concatenate(gaps)
    rows = []
    for (arm, layer, site), place in places.items():
        change, controls = np.concatenate(place.change), np.concatenate(place.controls, axis=1)
        raw = bootstrap.difference(change)
        own = sign_p(bootstrap.sums(change))
        base = {
            "family": "patching",
            "arm": arm,
            "model": model,
            "layer": layer,
            "site": site,
            "n_problems": len(pairs),
            "coherent": True,
            "note": "",
        }
        beside = control_columns(raw.estimate, controls.mean(axis=1).tolist(), "random positions", own)
        untouched = float(np.concatenate(place.into).mean())
        rows.append(base | {"outcome": "log-probability", "untouched": untouched} | raw.as_dict() | beside)
        toward = -1.0 if arm == "noising" else 1.0
        rows.append(base | {"outcome": "restored"} | restored(change, controls, toward * gap, bootstrap))
    return rows


def batches(pairs: Sequence[Pair], vocab: int) -> list[list[Pair]]:
    """Pairs that are run together: at most TOGETHER, and at most BYTES of logits in fp32."""
    found: list[list[Pair]] = [[]]
    for pair in pairs:
        width = max(len(p.clean) for p in [*found[-1], pair])
        if found[-1] and (len(found[-1]) == TOGETHER or 4 * vocab * width * (len(found[-1]) + 1) > BYTES):
            found.append([])
        found[-1].append(pair)
    return found


def _patch_batch(
    bridge: Any,
    pairs: Sequence[Pair],
    layers: Sequence[int],
    draws: int,
    rng: np.random.Generator,
    places: dict[tuple[str, int, str], _Place],
    advance: Callable[[], None],
) -> np.ndarray:
    """Add one batch to every place; its gap between clean and corrupt."""
    beginning = read_beginning(bridge, pairs)
    clean, corrupt = (run_side(bridge, pairs, beginning, side, SITES, layers) for side in (False, True))
    at_marker = positions_mask([p.changed for p in pairs], clean)
    elsewhere = [positions_mask(random_positions(pairs, rng), clean) for _ in range(draws)]
    for arm, into, source in (("noising", clean, corrupt), ("denoising", corrupt, clean)):
        for layer in layers:
            for site in SITES:
                names, place = [hook_name(layer, site)], places[arm, layer, site]
                place.into.append(into.metric)
                moved = patch(bridge, into, source, names, [at_marker, *elsewhere], pairs) - into.metric
                place.change.append(moved[0])
                place.controls.append(moved[1:])
                advance()
    return clean.metric - corrupt.metric


def restored(change: np.ndarray, controls: np.ndarray, gap: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """Share of the difference between clean and corrupt (`gap`) that the patch carries over, a ratio of means over
    pairs: 0 nothing, 1 all. Refused where the interval of `gap` contains 0: the share would divide by noise."""
    total = bootstrap.difference(gap)
    if not total.excludes_zero():
        return {
            "note": f"refused: clean and corrupt differ by {total.estimate:.3f} "
            f"[{total.low:.3f}, {total.high:.3f}] nats, which may be 0"
        }
    draws = bootstrap.sums(change) / bootstrap.sums(gap)
    draws = draws[np.isfinite(draws)]
    share = bootstrap.interval(float(change.sum() / gap.sum()), draws)
    shares = (controls.sum(axis=1) / gap.sum()).tolist()
    return number(share) | control_columns(share.estimate, shares, "random positions", sign_p(draws))
