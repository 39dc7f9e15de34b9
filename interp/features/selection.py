"""Deciding latents: the smallest set that carries a decision, chosen on one half of the problems and confirmed on the
other.

On the choosing half, integrated gradients rank all latents and exact ablation the best of them; the set grows in the
order of the exact effects until the decision is gone. On the confirming half the same set is ablated beside sets that
are matched at the same places, and the claim stands only where none of these comes as far and right steps are left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from torch import Tensor

from interp.features.attribution import Decision, Side, exact_effects, integrated_gradients
from interp.features.matched import matched_latents

EXACT = 64
"""Latents whose effect is measured exactly."""
MOST = 16
"""Latents of the largest set."""
GONE = 0.125
"""Share of the untouched probability of an onset at which the set is large enough. Half of what is claimed (QUARTER),
so that the claim does not hang on the half of the problems on which the set was chosen."""
QUARTER = 0.25
"""Share of the untouched probability of an onset below which a decision counts as located."""
DAMAGE = 0.03
"""Largest rise of the probability of an onset after right steps."""
DRAWS = 100
"""Matched sets."""


@dataclass(frozen=True)
class Ranked:
    """The best latents of the choosing half."""

    table: pl.DataFrame
    """One row per latent, the largest exact effect first. In nats of the margin, positive where the latent pushes
    towards an onset: `attribution` (integrated gradients from no latent), `contrast` (from the negative side's code)
    and `effect` (of its ablation). `rate_positive` and `rate_negative`: how often it fires."""
    gap: float
    """Difference of the margin between the two sides, nats."""
    explained: float
    """Sum of all latents' shares in this difference, nats: what of it the crosscoder holds."""
    correlation: float
    """Spearman's, of attribution and effect over the table; nan where one of them is constant."""


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
    """The latents with the largest attribution and their exact effects."""
    attribution, contrast = integrated_gradients(decision, from_zero=True), integrated_gradients(decision)
    best = attribution.argsort(descending=True)[:most].tolist()
    effect = exact_effects(decision, best).cpu().numpy()
    above, below = (decision.margin.of(decision.logits(side)) for side in (decision.positive, decision.negative))
    given = attribution[best].cpu().numpy()
    table = pl.DataFrame(
        {
            "latent": best,
            "attribution": given.astype(np.float64),
            "contrast": contrast[best].cpu().numpy().astype(np.float64),
            "effect": effect.astype(np.float64),
            "rate_positive": _rate(decision.positive)[best],
            "rate_negative": _rate(decision.negative)[best],
        }
    ).sort("effect", descending=True)
    return Ranked(table, float((above - below).mean()), float(contrast.sum()), _spearman(given, effect))


def smallest_set(decision: Decision, order: Sequence[int]) -> tuple[int, ...]:
    """The first latents of `order` that together take the mean probability of an onset below GONE of the untouched one;
    MOST of them where no smaller number does, and fewer where `order` is shorter."""
    untouched = _onset(decision, decision.positive)
    for k in range(1, min(MOST, len(order)) + 1):
        if _onset(decision, decision.positive, order[:k]) <= GONE * untouched:
            return tuple(order[:k])
    return tuple(order[:MOST])


def confirm(decision: Decision, latents: Sequence[int], seed: int, draws: int = DRAWS) -> Confirmed:
    """The set's effect on the confirming half, beside matched sets."""
    positive, negative = decision.positive, decision.negative
    drawn = matched_latents(latents, _rate(positive), _size(decision, positive), draws, seed, never=latents)
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
        kl_negative=float(_kl(before, after).mean()),
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
    if len(found.controls) < draws:
        return f"{len(found.controls)} of {draws} matched sets: {found.match}"
    worst = min(found.controls)
    if worst <= found.onset_ablated:
        return f"a matched set leaves {worst:.3f}, the latents {found.onset_ablated:.3f}"
    return None


def _counted(latents: Sequence[int]) -> str:
    return f"{len(latents)} latent{'s' if len(latents) != 1 else ''}"


def _onset(decision: Decision, side: Side, latents: Sequence[int] = ()) -> float:
    return float(decision.margin.p(decision.logits(side, latents)).mean())


def _rate(side: Side) -> Float[np.ndarray, " latents"]:
    """How often each latent fires."""
    return (side.f > 0).double().mean(0).cpu().numpy()


def _size(decision: Decision, side: Side) -> Float[np.ndarray, " latents"]:
    """Mean of f·‖d‖ of each latent, in input units: how far its ablation moves the residual."""
    return (side.f.mean(0) * decision.decoder.norm(dim=1)).detach().double().cpu().numpy()


def _kl(before: Float[Tensor, "rows vocab"], after: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    first = before.log_softmax(1)
    return (first.exp() * (first - after.log_softmax(1))).sum(1)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    result: Any = spearmanr(a, b)
    return float(result.statistic)
