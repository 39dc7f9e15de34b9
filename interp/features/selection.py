"""Deciding latents: the smallest set that carries a decision, chosen on one half of the problems and confirmed on the
other.

On the choosing half, integrated gradients of the contrast rank all latents and exact edits the best of them; the set
grows in the order of the exact effects until the decision is gone. On the confirming half the same set is ablated
beside sets that are matched at the same places, and the claim stands only where none of these comes as far and right
steps are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from interp.features.attribution import Decision, Side, exact_effects, integrated_gradients
from interp.features.margin import kl
from interp.features.matched import matched_latents

EXACT = 64
"""Latents whose effect is measured exactly."""
MOST = 16
"""Latents of the largest set."""
LEAST = 0.02
"""Share of the gap between the sides' margins that a latent of a set must carry."""
GONE = 0.125
"""Share of the untouched probability of an onset at which the set is large enough. Half of what is claimed (QUARTER),
so that the claim does not hang on the half of the problems on which the set was chosen."""
QUARTER = 0.25
"""Share of the untouched probability of an onset below which a decision counts as located."""
DAMAGE = 0.03
"""Largest rise of the probability of an onset after right steps."""
DAMAGE_KL = 0.1
"""Largest KL that ablation may do to the next token after right steps, nats: what leaves right steps alone."""
DRAWS = 100
"""Matched sets."""


@dataclass(frozen=True)
class Ranked:
    """The best latents of the choosing half."""

    table: pl.DataFrame
    """One row per latent, the largest exact effect first. In nats of the margin, positive where the latent tells the
    positive side from the negative one: `contrast` (integrated gradients from the negative side's code) and `effect`
    (of setting it to its mean on the negative side); and `attribution` (integrated gradients from no latent), which is
    also large for a latent that is active on both sides. `rate_positive` and `rate_negative`: how often it fires.
    `harm`: KL of the next token on the negative side when the latent is set to zero, nats."""
    gap: float
    """Difference of the margin between the two sides, nats."""
    explained: float
    """Sum of all latents' shares in this difference, nats: what of it the crosscoder holds."""
    correlation: float
    """Spearman's, of contrast and effect over the table; nan where one of them is constant."""


@dataclass(frozen=True)
class Confirmed:
    """A set of latents on the confirming half. Probabilities are of a token that begins the behaviour."""

    latents: tuple[int, ...]
    located: bool
    why: str
    pairs: int
    onset: float
    """After the positive side, untouched."""
    onset_ablated: float
    false_alarm: float
    """After the negative side, untouched."""
    false_alarm_ablated: float
    kl_negative: float
    """KL(untouched ‖ ablated) of the next token after the negative side, nats: what is done to right steps."""
    controls: tuple[float, ...]
    """After the positive side under each matched set."""
    p: float | None
    """(1 + matched sets that leave as small a probability) / (1 + matched sets); None without any."""
    match: str
    """How well the sets match."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {"latents": list(self.latents), "controls": list(self.controls)}


def rank(decision: Decision, most: int = EXACT) -> Ranked:
    """The latents with the largest share in the contrast, and their exact effects."""
    attribution, contrast = integrated_gradients(decision, from_zero=True), integrated_gradients(decision)
    best = contrast.argsort(descending=True)[:most].tolist()
    effect = exact_effects(decision, best).cpu().numpy()
    above, below = (decision.margin.of(decision.logits(side)) for side in (decision.positive, decision.negative))
    given = contrast[best].cpu().numpy()
    table = pl.DataFrame(
        {
            "latent": best,
            "attribution": attribution[best].cpu().numpy().astype(np.float64),
            "contrast": given.astype(np.float64),
            "effect": effect.astype(np.float64),
            "rate_positive": decision.positive.rate()[best],
            "rate_negative": decision.negative.rate()[best],
            "harm": [_harm(decision, [j]) for j in best],
        }
    ).sort("effect", descending=True)
    return Ranked(table, float((above - below).mean()), float(contrast.sum()), _spearman(given, effect))


def candidates(ranked: Ranked) -> list[int]:
    """Latents that may be of a set, the largest exact effect first: each carries at least LEAST of the gap, and the
    negative side does not need it (a latent that says what kind of place this is would take the model apart there)."""
    table = ranked.table.filter(pl.col("effect") >= LEAST * max(ranked.gap, 0.0), pl.col("harm") <= DAMAGE_KL)
    return table.filter(pl.col("effect") > 0)["latent"].to_list()


def smallest_set(decision: Decision, order: Sequence[int]) -> tuple[int, ...]:
    """The first latents of `order` that together take the mean probability of an onset below GONE of the untouched one;
    where no number does, all of them, at most MOST."""
    untouched = _onset(decision, decision.positive)
    for k in range(1, min(MOST, len(order)) + 1):
        if _onset(decision, decision.positive, order[:k]) <= GONE * untouched:
            return tuple(order[:k])
    return tuple(order[:MOST])


def confirm(decision: Decision, latents: Sequence[int], seed: int, draws: int = DRAWS) -> Confirmed:
    """The set's effect on the confirming half, beside matched sets."""
    positive, negative = decision.positive, decision.negative
    drawn = matched_latents(latents, positive.rate(), positive.size(decision.decoder), draws, seed, never=latents)
    controls = tuple(_onset(decision, positive, chosen) for chosen in drawn.draws)
    before, after = decision.logits(negative), decision.logits(negative, latents)
    ablated = _onset(decision, positive, latents)
    p = (1 + sum(control <= ablated for control in controls)) / (1 + len(controls)) if controls else None
    found = Confirmed(
        latents=tuple(latents),
        located=False,
        why="",
        pairs=len(positive.h),
        onset=_onset(decision, positive),
        onset_ablated=ablated,
        false_alarm=float(decision.margin.p(before).mean()),
        false_alarm_ablated=float(decision.margin.p(after).mean()),
        kl_negative=float(kl(before, after).mean()),
        controls=controls,
        p=p,
        match=drawn.note,
    )
    why = _why_not(found, draws)
    claim = (
        f"{_counted(latents)} to zero: the onset falls from {found.onset:.3f} to {ablated:.3f}, beyond all matched sets"
    )
    return Confirmed(**asdict(found) | {"located": why is None, "why": why or claim})


def _why_not(found: Confirmed, draws: int) -> str | None:
    """Why the claim does not stand; None where it does."""
    if found.onset_ablated > QUARTER * found.onset:
        left = f"{found.onset_ablated:.3f} of {found.onset:.3f}"
        return f"{_counted(found.latents)} to zero: an onset of {left} is left on the other half ({QUARTER:.0%} asked)"
    rise = found.false_alarm_ablated - found.false_alarm
    if rise > DAMAGE:
        return (
            f"ablation makes the model check right steps: {found.false_alarm_ablated:.3f}, was {found.false_alarm:.3f}"
        )
    if found.kl_negative > DAMAGE_KL:
        return f"ablation changes what follows right steps too (KL {found.kl_negative:.2f} nats, {DAMAGE_KL:g} allowed)"
    if len(found.controls) < draws:
        return f"{len(found.controls)} of {draws} matched sets: {found.match}"
    worst = min(found.controls)
    if worst <= found.onset_ablated:
        return f"a matched set leaves {worst:.3f}, the latents {found.onset_ablated:.3f}"
    return None


def _harm(decision: Decision, latents: Sequence[int]) -> float:
    """KL of the next token on the negative side, nats."""
    negative = decision.negative
    return float(kl(decision.logits(negative), decision.logits(negative, latents)).mean())


def _counted(latents: Sequence[int]) -> str:
    return f"{len(latents)} latent{'s' if len(latents) != 1 else ''}"


def _onset(decision: Decision, side: Side, latents: Sequence[int] = ()) -> float:
    return float(decision.margin.p(decision.logits(side, latents)).mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    result: Any = spearmanr(a, b)
    return float(result.statistic)
