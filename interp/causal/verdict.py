"""The verdict: what the gain depends on, read from arms that did what they claim. A pure function of the runs.

Three removals are read: the style with the function kept, the function with the style kept, and both. Every reading
has two sides and two estimates: what the distilled model loses, and what is lost of its gain over the base, on which
the same removal is run. Where an arm fails its check the verdict is not read from it; where that leaves nothing to
read, the verdict says which check failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interp.causal.arms import BOTH, FUNCTION, REMOVALS, STYLE
from interp.causal.checks import Check, as_rows, check_arm, failures, side_effects
from interp.causal.runs import UNTOUCHED, Runs
from interp.names import EDITED
from interp.statistics import Bootstrap, Interval, Refused, problems_needed

DECORATIVE, FUNCTIONAL, STYLISTIC, REDUNDANT = "decorative", "functional", "stylistic", "redundant"
OPENED = "functional, opened by its words"
NO_GAIN, TRAINING, UNDETERMINED = "no gain", "no gain beyond training", "undetermined"
VERDICTS = (DECORATIVE, FUNCTIONAL, OPENED, STYLISTIC, REDUNDANT, NO_GAIN, TRAINING, UNDETERMINED)
DROP, NONE, RISE, OPEN = "drop", "no drop", "rise", "undetermined"
FEWEST = 30
"""Problems below which nothing is read: resampling so few says little about others."""
COVERED = 0.5
"""Least share of what sets the model's words apart that listed markers must account for."""


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
    cost; `no drop`: own and net within the bound on both sides; `rise`: own below minus the bound; else
    `undetermined`."""
    needed: int | None
    """Problems that would decide it, where an interval holds the bound."""
    checks: tuple[Check, ...]
    above_control: Interval | None = None
    """`own` less what the control fine-tune loses under the same edit, None where it was not run on it."""
    why: str = ""
    """Why a loss above the bound is no drop."""

    @property
    def failed(self) -> list[str]:
        """What its checks say went wrong."""
        return failures(self.checks)

    @property
    def passed(self) -> bool:
        return not self.failed


@dataclass(frozen=True)
class Verdict:
    """The reading of a study, with the numbers that lead to it."""

    verdict: str
    why: str
    gain: Interval
    """Accuracy of distilled minus base."""
    gain_over_control: Interval | None
    """Accuracy of distilled minus the control fine-tune; None where there is none."""
    bound: float
    """Equivalence bound: the smaller of the given one and a third of the gain."""
    mediated: Interval | Refused
    """Share of the gain lost with the style, beyond matched controls."""
    arms: Mapping[str, Reading] = field(default_factory=dict)
    read_from: Mapping[str, str] = field(default_factory=dict)
    """Removal to the arm that it was read from."""


def conclude(
    runs: Runs,
    *,
    bound: float = 0.05,
    resamples: int = 10000,
    seed: int = 0,
    coherence: Mapping[str, float] | None = None,
    guard: float = 1.5,
    found: Sequence[str] = (),
    coverage: float = 1.0,
) -> Verdict:
    """Read the protocol's table.

    Args:
        bound: largest change of accuracy that counts as none.
        found: style words that set the distilled model apart and no lexicon lists.
        coverage: share of its style words' excess that listed markers account for.
    """
    bootstraps: dict[int, Bootstrap] = {}

    def bootstrap(n: int) -> Bootstrap:
        if n not in bootstraps:
            bootstraps[n] = Bootstrap(n, resamples, seed)
        return bootstraps[n]

    gain = gain_over(runs, "base", bootstrap)
    over_control = gain_over(runs, "control", bootstrap) if runs.has(UNTOUCHED, 0, "control") else None
    limit = min(bound, gain.estimate / 3) if gain.estimate > 0 else bound
    arms = {
        name: read(
            runs,
            name,
            limit,
            bootstrap,
            check_arm(runs, name, coherence=coherence, guard=guard, found=found, bound=limit),
        )
        for name, about in runs.arms.items()
        if about["claim"] in REMOVALS
    }
    mediated = mediated_fraction(runs, arms, gain, bound, bootstrap)
    word, why, source = _decide(runs, arms, gain, over_control, bound, found, coverage)
    if over_control is None and word not in (NO_GAIN, UNDETERMINED):
        why += " Without a control fine-tune, what training itself gives is not taken off the gain."
    return Verdict(word, why, gain, over_control, limit, mediated, arms, source)


def gain_over(runs: Runs, other: str, bootstrap) -> Interval:
    """Accuracy of the distilled model minus another's, paired by problem."""
    mine, its = (runs.outcomes(UNTOUCHED, 0, model).parts["accuracy"][0] for model in (EDITED, other))
    return bootstrap(len(mine)).difference(mine - its, within=1.0)


def losses(runs: Runs, name: str, draw: int = 0, model: str = EDITED) -> np.ndarray:
    """Accuracy lost by each problem of a run."""
    numbers = runs.numbers(name, draw, model)
    untouched = runs.outcomes(UNTOUCHED, 0, model, numbers=numbers).parts["accuracy"][0]
    return untouched - runs.outcomes(name, draw, model).parts["accuracy"][0]


def control_losses(runs: Runs, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(losses [draws, m] under the arm's controls, places of these m problems among the arm's), None without any."""
    draws = runs.draws(name)
    if not draws:
        return None
    numbers, among = runs.numbers(name), runs.numbers(name, draws[0])
    place = {number: i for i, number in enumerate(numbers)}
    return np.stack([losses(runs, name, draw) for draw in draws]), np.array([place[n] for n in among])


def read(runs: Runs, name: str, bound: float, bootstrap, checks: Sequence[Check]) -> Reading:
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
    beyond = None if controls is None else resampled.beyond(loss, *controls)
    control = None if controls is None else float(controls[0].mean())
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
    return Reading(claim, own, net, beyond, control, word, needed, tuple(checks), above_control, why)


def _word(own: Interval, net: Interval, others: Sequence[Interval], bound: float) -> str:
    if own.high < -bound:
        return RISE
    if all(-bound < i.low and i.high < bound for i in (own, net)):
        return NONE
    if all(i.low > bound for i in (own, net, *others)):
        return DROP
    return OPEN


def _holds(interval: Interval, bound: float) -> bool:
    return any(interval.low <= edge <= interval.high for edge in (-bound, bound))


def mediated_fraction(
    runs: Runs, arms: Mapping[str, Reading], gain: Interval, bound: float, bootstrap
) -> Interval | Refused:
    """[drop - mean control drop] / G of the removal of style, with its two-level interval; `drop` is of the gain.

    Refused where G may be 0 or is below the bound, where no removal of style passed its checks, and where the controls
    cost more than the removal.
    """
    if gain.low <= 0 or gain.estimate < bound:
        return Refused(f"the gain over the base, {_text(gain)}, may be 0 or is below the bound of {bound:g}")
    name = next((n for n in _in_order(runs, arms, STYLE) if arms[n].passed), None)
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
    return resampled.interval(float((loss.mean() - control) / gained.mean()), draws)


def _in_order(runs: Runs, arms: Mapping[str, Reading], claim: str) -> list[str]:
    """Arms of a claim, those that remove found words first, then in the order in which they were run."""
    mine = [name for name, reading in arms.items() if reading.claim == claim]
    return sorted(mine, key=lambda name: not runs.arms[name].get("found"))


def _text(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


@dataclass(frozen=True)
class _Removal:
    """What the arms of one claim say together."""

    word: str
    arms: tuple[str, ...]
    """Those that passed their checks, of the widest set of words."""
    why: str = ""
    """Why it says nothing."""


def _decide(
    runs: Runs,
    arms: Mapping[str, Reading],
    gain: Interval,
    over_control: Interval | None,
    bound: float,
    found: Sequence[str],
    coverage: float,
) -> tuple[str, str, dict[str, str]]:
    """(verdict, reason, removal to the arm that it was read from)."""
    n = len(runs.rows(UNTOUCHED))
    if n < FEWEST:
        return UNDETERMINED, f"Too few problems: {n} were run, at least {FEWEST} are needed.", {}
    if over_control is not None and (over_control.low <= 0 or over_control.estimate < bound):
        what = f"{_text(over_control)} above the control fine-tune, {_text(gain)} above the base"
        return TRAINING, f"The distilled model is {what}: training itself may give as much.", {}
    if gain.low <= 0 or gain.estimate < bound:
        what = "is worse than its base" if gain.high < 0 else f"gains {_text(gain)} over its base"
        return NO_GAIN, f"There is no reliable gain to explain: the distilled model {what} (bound {bound:g}).", {}
    removals = {claim: _removal(runs, arms, claim) for claim in REMOVALS}
    source = {claim: removal.arms[0] for claim, removal in removals.items() if removal.arms}
    open_words = _words_left(runs, removals[STYLE], arms, found, coverage)
    for claim in REMOVALS:
        word = removals[claim].word
        if not removals[claim].arms:
            return UNDETERMINED, removals[claim].why, source
        if word == RISE:
            rise = -arms[removals[claim].arms[0]].own.estimate
            cost = "The words cost accuracy" if claim == STYLE else "The verification costs accuracy"
            return UNDETERMINED, f"{cost}: it rises by {rise:.3f} with {WITHOUT[claim]}.", source
        if word == OPEN:
            return UNDETERMINED, removals[claim].why or _open(claim, arms[removals[claim].arms[0]]), source
    style, function, both = (removals[claim].word for claim in REMOVALS)
    told = {claim: _told(arms, removals[claim].arms[0]) for claim in REMOVALS}
    if style == DROP:
        if both != DROP:
            return UNDETERMINED, f"{told[STYLE]}, but {told[BOTH]}: the two contradict each other.", source
        return STYLISTIC, f"{told[STYLE]}.", source
    if open_words:
        return UNDETERMINED, open_words, source
    if function == DROP and both == DROP:
        opened = next((n for n, r in arms.items() if r.claim == STYLE and _is_opening(r)), None)
        if opened is not None:
            return OPENED, f"{told[STYLE]}; {told[FUNCTION]}; but {_told(arms, opened)}.", source
        return FUNCTIONAL, f"{told[STYLE]}; {told[FUNCTION]}.", source
    if function == DROP:
        return UNDETERMINED, f"{told[FUNCTION]}, but {told[BOTH]}: the two contradict each other.", source
    if both == DROP:
        return REDUNDANT, f"{told[STYLE]}; {told[FUNCTION]}; but {told[BOTH]}: either suffices.", source
    if found and not any(runs.arms[name].get("found") for name in removals[BOTH].arms):
        listed = ", ".join(found[:8])
        why = f"Words that no lexicon lists were not taken away together with the verification: {listed}"
        return UNDETERMINED, f"{why}; whether either suffices is open.", source
    return DECORATIVE, f"{told[STYLE]}; {told[FUNCTION]}; {told[BOTH]}.", source


NAMES = {STYLE: "The style", FUNCTION: "The function", BOTH: "Both"}
WITHOUT = {
    STYLE: "the markers taken away",
    FUNCTION: "the verification taken away",
    BOTH: "the markers and the verification taken away together",
}


def _removal(runs: Runs, arms: Mapping[str, Reading], claim: str) -> _Removal:
    """What is read from the arms of a claim that passed their checks. Those that also remove found words are read
    first; arms of the same words must not contradict each other."""
    mine = _in_order(runs, arms, claim)
    passed = [name for name in mine if arms[name].passed]
    if not passed:
        return _Removal(OPEN, (), _why_none(arms, mine, claim))
    widest = [name for name in passed if bool(runs.arms[name].get("found")) == bool(runs.arms[passed[0]].get("found"))]
    words = {arms[name].reading for name in widest} - {OPEN}
    if len(words) > 1:
        said = "; ".join(_told(arms, name) for name in widest)
        return _Removal(OPEN, tuple(widest), f"Two ways of the same removal disagree: {said}.")
    word = next(iter(words), OPEN)
    decided = next((arms[name] for name in widest if arms[name].reading == word), None)
    apart = [name for name in widest if decided is not None and not _overlap(arms[name].own, decided.own)]
    if apart:
        said = "; ".join(_told(arms, name) for name in widest)
        return _Removal(OPEN, tuple(widest), f"Two ways of the same removal disagree: {said}.")
    return _Removal(word, tuple(sorted(widest, key=lambda name: arms[name].reading != word)))


def _why_none(arms: Mapping[str, Reading], mine: Sequence[str], claim: str) -> str:
    if not mine:
        return f"{NAMES[claim]} could not be removed here."
    said = "; ".join(f"{name}: {', '.join(arms[name].failed)}" for name in mine)
    if claim == STYLE:
        also = all(_function_went(arms[name]) for name in mine)
        start = "The ban also removed the verification" if also else "No removal of the style did what its name says"
    elif claim == FUNCTION:
        start = "The function could not be removed here"
    else:
        start = "Both could not be removed together here"
    return f"{start} ({said})."


def _overlap(a: Interval, b: Interval) -> bool:
    return a.low <= b.high and b.low <= a.high


def _is_opening(reading: Reading) -> bool:
    """Whether a removal of style costs accuracy, and its only fault is that the function went with the words."""
    return reading.reading == DROP and reading.failed != [] and all(map(_is_function, reading.failed))


def _function_went(reading: Reading) -> bool:
    return any(map(_is_function, reading.failed))


def _is_function(problem: str) -> bool:
    return "verification went too" in problem or "fewer checks" in problem


def _words_left(runs: Runs, style: _Removal, arms: Mapping[str, Reading], found: Sequence[str], coverage: float) -> str:
    """Why style words that no lexicon lists leave the verdict open, empty where they do not."""
    if any(runs.arms[name].get("found") for name in style.arms):
        return ""
    if not found:
        share = f"Listed markers cover {coverage:.0%} of what sets the distilled model's words apart"
        return "" if coverage >= COVERED else f"{share}, and no others were taken away; put them into the lexicon."
    tried = [f"{n}: {', '.join(r.failed)}" for n, r in arms.items() if r.claim == STYLE and runs.arms[n].get("found")]
    listed = ", ".join(found[:8])
    why = f" and could not be taken away ({'; '.join(tried)})" if tried else " and were not taken away"
    return (
        f"Words that no lexicon lists set the distilled model apart{why}: {listed}; listed markers cover "
        f"{coverage:.0%} of what sets its words apart. Put them into the lexicon, as markers or as neutral words."
    )


def _told(arms: Mapping[str, Reading], name: str) -> str:
    """One arm's result in words, with what its checks measured."""
    reading = arms[name]
    measured = "; ".join(
        f"{check.what} {check.untouched:.3g} to {check.edited:.3g}"
        for check in reading.checks[:2]
        if check.untouched is not None and check.edited is not None
    )
    change = {DROP: "accuracy falls by", NONE: "accuracy stays within the bound, loss", RISE: "accuracy rises, loss"}
    start = f"{name}: {change.get(reading.reading, 'loss of accuracy')} {_text(reading.own)}"
    return f"{start} ({measured})" if measured else start


def _open(claim: str, reading: Reading) -> str:
    """Why a removal leaves the verdict undetermined."""
    said = f"Whether accuracy changes with {WITHOUT[claim]} is open: loss {_text(reading.own)}"
    if _text(reading.own) != _text(reading.net):
        said += f", of the gain {_text(reading.net)}"
    if reading.beyond is not None:
        said += f", beyond matched controls {_text(reading.beyond)}"
    if reading.above_control is not None and _text(reading.own) != _text(reading.above_control):
        said += f", beyond the control fine-tune's {_text(reading.above_control)}"
    if reading.why:
        return f"{said}; {reading.why}."
    if reading.control is not None and reading.control > max(0.0, reading.own.estimate) / 2:
        return f"{said}; its controls cost {reading.control:.3f} themselves, so they cannot be subtracted."
    enough = "no number of problems near these" if reading.needed is None else f"about {reading.needed} problems"
    return f"{said}; {enough} would decide."


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The part of `verdict.json` that follows from the arms."""
    return {
        "verdict": verdict.verdict,
        "why": verdict.why,
        "bound": verdict.bound,
        "gain": verdict.gain.as_dict(),
        "gain_over_control": None if verdict.gain_over_control is None else verdict.gain_over_control.as_dict(),
        "mediated_fraction": verdict.mediated.as_dict(),
        "read_from": dict(verdict.read_from),
        "arms": {
            name: {
                "claim": r.claim,
                "own": r.own.as_dict(),
                "net": r.net.as_dict(),
                "beyond": None if r.beyond is None else r.beyond.as_dict(),
                "control_drop": r.control,
                "reading": r.reading,
                "needed": r.needed,
                "failed": r.failed,
                "checks": as_rows(r.checks),
            }
            for name, r in verdict.arms.items()
        },
    }
