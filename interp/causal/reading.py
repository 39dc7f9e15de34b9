"""What an arm costs: accuracy lost by the distilled model, of its gain, and beyond its controls, against a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interp.causal.arms import STYLE
from interp.causal.checks import Check, failures, side_effects, sound_draws
from interp.causal.runs import UNTOUCHED, Runs
from interp.names import EDITED
from interp.statistics import Bootstrap, Interval, Refused, problems_needed

DROP, NONE, RISE, OPEN = "drop", "no drop", "rise", "undetermined"
Resamples = Callable[[int], Bootstrap]
"""Number of problems to its resamples, drawn once."""


@dataclass(frozen=True)
class Reading:
    """What one arm costs."""

    claim: str
    own: Interval
    """Accuracy that the distilled model loses, a share; positive is worse."""
    net: Interval
    """The part of its gain over the base that is lost: `own` less what the base loses under the same edit."""
    beyond: Interval | None
    """`own` less the matched controls' mean loss, None where there are no controls."""
    control: float | None
    """Mean loss under the controls."""
    reading: str
    """`drop`: own, net, beyond and above_control all above the bound, and more than what the arm's side effects could
    cost; `no drop`: own and net within the bound on both sides; `rise`: own, net, beyond and above_control all below
    minus the bound; else `undetermined`."""
    needed: int | None
    """Problems that would decide it, where an interval holds the bound."""
    checks: tuple[Check, ...]
    above_control: Interval | None = None
    """`own` less what the control fine-tune loses under the same edit, None where it was not run on it."""
    why: str = ""
    """Why a loss above the bound is no drop."""
    lost: bool = False
    """Whether own, net and above_control are all above the bound, whatever the matched controls and the side effects
    say."""

    @property
    def failed(self) -> list[str]:
        """What its checks say went wrong."""
        return failures(self.checks)

    @property
    def passed(self) -> bool:
        return not self.failed


def gain_over(runs: Runs, other: str, bootstrap: Resamples) -> Interval:
    """Accuracy of the distilled model minus another's, paired by problem."""
    mine, its = (runs.outcomes(UNTOUCHED, 0, model).parts["accuracy"][0] for model in (EDITED, other))
    return bootstrap(len(mine)).difference(mine - its, within=1.0)


def losses(runs: Runs, name: str, draw: int = 0, model: str = EDITED) -> np.ndarray:
    """Accuracy lost by each problem of a run."""
    numbers = runs.numbers(name, draw, model)
    untouched = runs.outcomes(UNTOUCHED, 0, model, numbers=numbers).parts["accuracy"][0]
    return untouched - runs.outcomes(name, draw, model).parts["accuracy"][0]


def control_losses(runs: Runs, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(losses [draws, m] under the arm's controls, places of these m problems among the arm's), None without any. Of an
    arm on latents, controls that do harm of another kind are left out (`checks.sound_draws`)."""
    draws = sound_draws(runs, name)
    if not draws:
        return None
    numbers, among = runs.numbers(name), runs.numbers(name, draws[0])
    place = {number: i for i, number in enumerate(numbers)}
    return np.stack([losses(runs, name, draw) for draw in draws]), np.array([place[n] for n in among])


def read(runs: Runs, name: str, bound: float, bootstrap: Resamples, checks: Sequence[Check]) -> Reading:
    """Compare an arm's losses with the bound."""
    loss = losses(runs, name)
    resampled = bootstrap(len(loss))
    own = resampled.difference(loss, within=1.0)
    over_base, above_control = (
        resampled.difference(loss - losses(runs, name, 0, other), within=1.0) if runs.has(name, 0, other) else None
        for other in ("base", "control")
    )
    net = own if over_base is None else over_base
    controls = control_losses(runs, name)
    beyond = None if controls is None else resampled.beyond(loss, *controls, within=1.0)
    control = None if controls is None else float(controls[0].mean())
    lost = over_base is not None and all(i.low > bound for i in (own, net, above_control) if i is not None)
    word, why = _word(own, net, [i for i in (beyond, above_control) if i is not None], bound), ""
    if word == DROP:
        cost, by = side_effects(runs, name, bound=bound)
        if over_base is None:
            why = "it was not run on the base, so that what it costs everyone would be charged to the gain"
        elif beyond is None:
            why = "it has no matched controls, so that any edit might cost as much"
        elif own.low - cost <= bound and not failures(checks):
            why = f"as much as {cost:.3f} of it could come from {by}"
        word = OPEN if why else DROP
    needed = None
    if word == OPEN:
        held = [i for i in (own, net, beyond, above_control) if i is not None and _holds(i, bound)]
        sizes = [problems_needed(i, len(loss), math.copysign(bound, i.estimate)) for i in held]
        needed = None if not sizes or None in sizes else max(size for size in sizes if size is not None)
    claim = runs.arms[name]["claim"]
    return Reading(claim, own, net, beyond, control, word, needed, tuple(checks), above_control, why, lost)


def _word(own: Interval, net: Interval, others: Sequence[Interval], bound: float) -> str:
    if all(-bound < i.low and i.high < bound for i in (own, net)):
        return NONE
    if all(i.low > bound for i in (own, net, *others)):
        return DROP
    if all(i.high < -bound for i in (own, net, *others)):
        return RISE
    return OPEN


def _holds(interval: Interval, bound: float) -> bool:
    return any(interval.low <= edge <= interval.high for edge in (-bound, bound))


def mediated_fraction(
    runs: Runs, arms: Mapping[str, Reading], gain: Interval, bound: float, bootstrap: Resamples
) -> Interval | Refused:
    """[drop - mean control drop] / G of the removal of style, with its two-level interval; `drop` is of the gain.

    Refused where G may be 0 or is below the bound, where no removal of style passed its checks, and where the controls
    cost more than the removal.
    """
    if gain.low <= 0 or gain.estimate < bound:
        return Refused(f"the gain over the base, {text(gain)}, may be 0 or is below the bound of {bound:g}")
    name = next((n for n in in_order(runs, arms, STYLE) if arms[n].passed), None)
    if name is None:
        return Refused("no removal of style kept the function")
    reading = arms[name]
    if reading.control is not None and reading.control > max(reading.own.estimate, 0) and reading.control > bound / 5:
        return Refused(
            f"matched controls cost {reading.control:.3f}, more than the removal ({reading.own.estimate:.3f})"
        )
    numbers = runs.numbers(name)
    mine, its = (runs.outcomes(UNTOUCHED, 0, m, numbers=numbers).parts["accuracy"][0] for m in (EDITED, "base"))
    gained, loss = mine - its, losses(runs, name)
    if runs.has(name, 0, "base"):
        loss = loss - losses(runs, name, 0, "base")
    resampled = bootstrap(len(loss))
    below = resampled.sums(gained)
    controls = control_losses(runs, name)
    control = 0.0 if reading.control is None else reading.control
    noise = np.zeros_like(below) if controls is None else resampled.control_draws(*controls)
    kept = (below > 0) & np.isfinite(noise)
    draws = (resampled.sums(loss) - len(loss) * noise)[kept] / below[kept]
    found = resampled.interval(float((loss.mean() - control) / gained.mean()), draws)
    return found.reaching(resampled.least(loss, 1.0) / abs(gained.mean()))


def in_order(runs: Runs, arms: Mapping[str, Reading], claim: str) -> list[str]:
    """Arms of a claim, those that remove found words first, then in the order in which they were run."""
    mine = [name for name, reading in arms.items() if reading.claim == claim]
    return sorted(mine, key=lambda name: not runs.arms[name].get("found"))


def text(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
