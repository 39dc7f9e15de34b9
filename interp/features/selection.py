"""Deciding latents: the smallest set that carries a decision, chosen on one half of the problems and confirmed on the
other.

Latents are *set back*: to their mean on the negative side (what they are after right steps, or before neutral words).
Zero would be wrong for two kinds: a latent that is active on both sides, without which the model is lost at both, and
one that is active on the negative side alone.

On the choosing half, integrated gradients of the contrast rank all latents and exact edits the best of them; the set
grows by the latent that does most, given those before it, until the decision is gone. On the confirming half the same
set is set back beside sets that are matched at the same places, and the claim stands only where none of these comes as
far and right steps are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.attribution import Decision, Side, exact_effects, integrated_gradients
from interp.features.matched import alike, matched_latents

EXACT = 64
"""Latents whose effect is measured exactly."""
MOST = 16
"""Latents of the largest set."""
LEAST = 0.02
"""Share of the gap between the sides' margins that a latent of a set must carry."""
GONE = 0.15
"""Share of the untouched probability of an onset at which the set is large enough. Less than what is claimed (QUARTER),
so that the claim does not hang on the half of the problems on which the set was chosen, nor on one position alone."""
QUARTER = 0.25
"""Share of the untouched probability of an onset below which a decision counts as located."""
DAMAGE = 0.03
"""Largest rise of the probability of an onset after right steps."""
DAMAGE_KL = 0.03
"""Largest KL that may be done to the next token after right steps, nats: what leaves right steps alone."""
HARMFUL = 128
"""Latents whose harm is measured."""
DRAWS = 100
"""Controls."""


@dataclass(frozen=True)
class Ranked:
    """The best latents of the choosing half."""

    table: pl.DataFrame
    """One row per latent, the largest exact effect first. In nats of the margin, positive where the latent tells the
    positive side from the negative one: `contrast` (integrated gradients from the negative side's code) and `effect`
    (of setting it to its mean on the negative side); and `attribution` (integrated gradients from no latent), which is
    also large for a latent that is active on both sides. `rate_positive` and `rate_negative`: how often it fires.
    `level`: what it is set back to, in units of its activation."""
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
    levels: tuple[float, ...]
    """What each is set back to."""
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
    """KL(untouched ‖ set back) of the next token after the negative side, given that no onset comes, nats: what is done
    to right steps."""
    controls: tuple[float, ...]
    """After the positive side under each control (`matched_latents`)."""
    p: float | None
    """(1 + controls that leave as small a probability) / (1 + controls); None without any."""
    match: str
    """How well the controls match."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        lists = {name: list(getattr(self, name)) for name in ("latents", "levels", "controls")}
        return asdict(self) | lists


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
            "level": decision.level[best].cpu().numpy().astype(np.float64),
        }
    ).sort("effect", descending=True)
    return Ranked(table, float((above - below).mean()), float(contrast.sum()), _spearman(given, effect))


def candidates(ranked: Ranked) -> list[int]:
    """Latents that may be of a set, the largest exact effect first: by attribution or by effect, each carries at least
    LEAST of the gap. Where several latents say the same, each one's effect alone is small and its share is not."""
    enough = pl.max_horizontal("contrast", "effect") >= LEAST * max(ranked.gap, 1e-6)
    return ranked.table.filter(enough)["latent"].to_list()


def smallest_set(decision: Decision, pool: Sequence[int]) -> tuple[int, ...]:
    """Latents of `pool` that, set back together, take the mean probability of an onset below GONE of the untouched one.

    They are chosen one after the other, each the one that lowers the mean margin most, given those before it, to the
    goal or to MOST latents: of several that say the same, the first alone does nothing. Then those are given up again,
    the least needed first, without which the goal is still reached; where it is not, those that lower the margin by
    less than LEAST of the gap. A set that reaches the goal is made smaller by exchange (`_exchanged`) where it can be.
    """
    margin, positive = decision.margin, decision.positive
    untouched = decision.logits(positive)
    below = margin.of(decision.logits(decision.negative)).mean()
    least = LEAST * max(float((margin.of(untouched).mean() - below).abs()), 1e-6)
    goal = GONE * float(margin.p(untouched).mean())

    @cache
    def left(latents: frozenset[int]) -> tuple[float, float]:
        """The mean margin with these latents set back, and the mean probability of an onset."""
        chosen = sorted(latents)
        logits = decision.logits(positive, chosen, decision.level[chosen])
        return float(margin.of(logits).mean()), float(margin.p(logits).mean())

    chosen: tuple[int, ...] = ()
    while len(chosen) < min(MOST, len(pool)) and (not chosen or left(frozenset(chosen))[1] > goal):
        others = [j for j in pool if j not in chosen]
        chosen = (*chosen, min(others, key=lambda j: left(frozenset((*chosen, j)))[0]))
    while chosen:
        now, p = left(frozenset(chosen))
        without = {j: left(frozenset(chosen) - {j}) for j in chosen}
        spared = min(without, key=lambda j: without[j][0])
        needed = without[spared][1] > goal if p <= goal else without[spared][0] - now >= least
        if needed:
            break
        chosen = tuple(j for j in chosen if j != spared)
    while len(chosen) > 1 and left(frozenset(chosen))[1] <= goal:
        fewer = _exchanged(chosen, pool, lambda latents: left(latents)[1], goal)
        if fewer is None:
            break
        chosen = fewer
    return chosen


def _exchanged(
    chosen: tuple[int, ...], pool: Sequence[int], left: Callable[[frozenset[int]], float], goal: float
) -> tuple[int, ...] | None:
    """A set with one latent less that reaches the goal as well, None where none is found: from the best one without a
    latent of `chosen`, the exchange of one latent for one of `pool` that leaves least, again and again. What was chosen
    first need not be in the smallest set."""
    now = min((tuple(i for i in chosen if i != j) for j in chosen), key=lambda one: left(frozenset(one)))
    while left(frozenset(now)) > goal:
        others = [j for j in pool if j not in now]
        exchanged = [tuple(other if i == j else i for i in now) for j in now for other in others]
        best = min(exchanged, key=lambda one: left(frozenset(one)), default=now)
        if left(frozenset(best)) >= left(frozenset(now)):
            return None
        now = best
    return now


@torch.no_grad()
def harmful(decision: Decision, level: Float[Tensor, " latents"], most: int = HARMFUL) -> list[int]:
    """Latents that are neither candidates nor controls, since setting one of them back alone changes what follows the
    negative side by more than a claimed set may: of the `most` that move the residual furthest there. A set with such a
    latent, say one that tells the last step, breaks the text, which is an effect of another kind."""
    negative = decision.negative
    moved = negative.size(decision.decoder, level)
    before = decision.logits(negative)
    found = []
    for j in np.argsort(-moved, kind="stable")[:most].tolist():
        if moved[j] > 0:
            after = decision.logits(negative, [j], level[[j]])
            if float(decision.margin.harm(before, after).mean()) > DAMAGE_KL:
                found.append(int(j))
    return found


def confirm(
    decision: Decision,
    latents: Sequence[int],
    level: Float[Tensor, " latents"],
    seed: int,
    draws: int = DRAWS,
    event: str = "onset",
    never: Sequence[int] = (),
) -> Confirmed:
    """The set's effect on the confirming half, beside matched sets.

    Args:
        level: what every latent is set back to, from the choosing half.
        event: what a positive token begins, in words.
        never: latents that are no control (`harmful`).
    """
    positive, negative, chosen = decision.positive, decision.negative, list(latents)
    moved = positive.size(decision.decoder, level)
    drawn = matched_latents(
        latents, decision.rate(), moved, draws, seed, never=[*alike(decision.decoder, latents), *never]
    )
    controls = tuple(
        drawn.controls(
            lambda others: _onset(decision, positive, others, level),
            lambda along: _onset(decision, positive, chosen, level, along),
        )
    )
    before, after = decision.logits(negative), decision.logits(negative, chosen, level[chosen])
    ablated = _onset(decision, positive, chosen, level)
    p = (1 + sum(control <= ablated for control in controls)) / (1 + len(controls)) if controls else None
    found = Confirmed(
        latents=tuple(latents),
        levels=tuple(level[chosen].tolist()),
        located=False,
        why="",
        pairs=len(positive.h),
        onset=_onset(decision, positive),
        onset_ablated=ablated,
        false_alarm=float(decision.margin.p(before).mean()),
        false_alarm_ablated=float(decision.margin.p(after).mean()),
        kl_negative=float(decision.margin.harm(before, after).mean()),
        controls=controls,
        p=p,
        match=drawn.note,
    )
    why = _why_not(found, draws, event)
    falls = f"the {event} falls from {found.onset:.3f} to {ablated:.3f}"
    claim = f"{_counted(latents)} set back: {falls}, beyond all {len(controls)} controls"
    return Confirmed(**asdict(found) | {"located": why is None, "why": why or claim})


def _why_not(found: Confirmed, draws: int, event: str) -> str | None:
    """Why the claim does not stand; None where it does."""
    if found.onset_ablated > QUARTER * found.onset:
        left = f"{found.onset_ablated:.3f} of {found.onset:.3f}"
        asked = f"is left of the {event} on the other half ({QUARTER:.0%} asked)"
        return f"{_counted(found.latents)} set back: {left} {asked}"
    rise = found.false_alarm_ablated - found.false_alarm
    if rise > DAMAGE:
        alarms = f"{found.false_alarm_ablated:.3f}, was {found.false_alarm:.3f}"
        return f"setting them back brings the {event} about on the negative side: {alarms}"
    if found.kl_negative > DAMAGE_KL:
        harm = f"KL {found.kl_negative:.3f} nats, {DAMAGE_KL:g} allowed"
        return f"setting them back changes what follows the negative side too ({harm})"
    if len(found.controls) < draws:
        return f"{len(found.controls)} of {draws} controls: {found.match}"
    worst = min(found.controls)
    if worst <= found.onset_ablated:
        return f"a control leaves {worst:.3f}, the latents {found.onset_ablated:.3f}"
    return None


def _counted(latents: Sequence[int]) -> str:
    return f"{len(latents)} latent{'s' if len(latents) != 1 else ''}"


def _onset(
    decision: Decision,
    side: Side,
    latents: Sequence[int] = (),
    level: Float[Tensor, " latents"] | None = None,
    along: Sequence[int] | None = None,
) -> float:
    """Mean probability of an onset with these latents set to their level."""
    to = None if level is None else level[list(latents)]
    return float(decision.margin.p(decision.logits(side, latents, to, along)).mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    result: Any = spearmanr(a, b)
    return float(result.statistic)
