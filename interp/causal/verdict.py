"""The verdict: what the gain depends on, read from arms that did what they claim. A pure function of the runs.

Three removals are read: the style with the function kept, the function with the style kept, and both. Every reading
has two sides and two estimates: what the distilled model loses, and what is lost of its gain over the base, on which
the same removal is run. Where an arm fails its check the verdict is not read from it; where that leaves nothing to
read, the verdict says which check failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp.causal.arms import BOTH, FUNCTION, REMOVALS, STYLE
from interp.causal.checks import as_rows, check_arm
from interp.causal.reading import DROP, NONE, OPEN, RISE, Reading, gain_over, in_order, mediated_fraction, read, text
from interp.causal.runs import UNTOUCHED, Runs
from interp.statistics import Interval, Refused, bootstraps

DECORATIVE, FUNCTIONAL, STYLISTIC, REDUNDANT = "decorative", "functional", "stylistic", "redundant"
HARMFUL = "harmful"
OPENED = "functional, opened by its words"
NO_GAIN, TRAINING, UNDETERMINED = "no gain", "no gain beyond training", "undetermined"
VERDICTS = (DECORATIVE, FUNCTIONAL, OPENED, STYLISTIC, HARMFUL, REDUNDANT, NO_GAIN, TRAINING, UNDETERMINED)
FEWEST = 30
"""Problems below which nothing is read: resampling so few says little about others."""
COVERED = 0.5
"""Least share of what sets the model's words apart that listed markers must account for."""


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
    mends_nothing: bool = False,
) -> Verdict:
    """Read the protocol's table.

    Args:
        bound: largest change of accuracy that counts as none.
        found: style words that set the distilled model apart and no lexicon lists.
        coverage: share of its style words' excess that listed markers account for.
        mends_nothing: whether injected errors show that it has no verification (`checks.mends_nothing`).
    """
    bootstrap = bootstraps(resamples, seed)
    gain = gain_over(runs, "base", bootstrap)
    over_control = gain_over(runs, "control", bootstrap) if runs.has(UNTOUCHED, 0, "control") else None
    limit = min(bound, gain.estimate / 3) if gain.estimate > 0 else bound
    arms = {
        name: read(
            runs,
            name,
            limit,
            bootstrap,
            check_arm(runs, name, coherence=coherence, guard=guard, found=found, bound=limit, none=mends_nothing),
        )
        for name, about in runs.arms.items()
        if about["claim"] in REMOVALS
    }
    mediated = mediated_fraction(runs, arms, gain, bound, bootstrap)
    word, why, source = _decide(runs, arms, gain, over_control, bound, found, coverage)
    if over_control is None and word not in (NO_GAIN, UNDETERMINED):
        why += " Without a control fine-tune, what training itself gives is not taken off the gain."
    return Verdict(word, why, gain, over_control, limit, mediated, arms, source)


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
        what = f"{text(over_control)} above the control fine-tune, {text(gain)} above the base"
        return TRAINING, f"The distilled model is {what}: training itself may give as much.", {}
    if gain.low <= 0 or gain.estimate < bound:
        what = "is worse than its base" if gain.high < 0 else f"gains {text(gain)} over its base"
        return NO_GAIN, f"There is no reliable gain to explain: the distilled model {what} (bound {bound:g}).", {}
    removals = {claim: _removal(runs, arms, claim) for claim in REMOVALS}
    source = {claim: removal.arms[0] for claim, removal in removals.items() if removal.arms}
    open_words = _words_left(runs, removals[STYLE], arms, found, coverage)
    for claim in REMOVALS:
        word = removals[claim].word
        if not removals[claim].arms:
            return UNDETERMINED, removals[claim].why, source
        if word == RISE and claim == FUNCTION:
            rise = -arms[removals[claim].arms[0]].own.estimate
            return UNDETERMINED, f"The verification costs accuracy: it rises by {rise:.3f} without it.", source
        if word == OPEN:
            return UNDETERMINED, removals[claim].why or _open(claim, arms[removals[claim].arms[0]]), source
    style, function, both = (removals[claim].word for claim in REMOVALS)
    told = {claim: _told(arms, removals[claim].arms[0]) for claim in REMOVALS}
    if style == DROP:
        if both != DROP:
            return UNDETERMINED, f"{told[STYLE]}, but {told[BOTH]}: the two contradict each other.", source
        return STYLISTIC, f"{told[STYLE]}.", source
    if style == RISE:
        if function == NONE and both != RISE:
            return UNDETERMINED, f"{told[STYLE]}, but {told[BOTH]}: the two contradict each other.", source
        return HARMFUL, f"{told[STYLE]}.", source
    if open_words:
        return UNDETERMINED, open_words, source
    if function == DROP and both == DROP:
        opened = next((n for n, r in arms.items() if r.claim == STYLE and _is_opening(r)), None)
        if opened is not None:
            return OPENED, f"{told[STYLE]}; {told[FUNCTION]}; but {_told(arms, opened)}.", source
        unsettled = next((n for n, r in arms.items() if r.claim == STYLE and _may_be_opening(r)), None)
        if unsettled is not None:
            why = f"{told[STYLE]}; {told[FUNCTION]}; whether the words open it is open: {_told(arms, unsettled)}"
            return UNDETERMINED, f"{why}, and the verification went with the words.", source
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
    first. Of the same words no two may read differently, and what one leaves open must hold another's loss."""
    mine = in_order(runs, arms, claim)
    passed = [name for name in mine if arms[name].passed]
    if not passed:
        return _Removal(OPEN, (), _why_none(arms, mine, claim))
    widest = [name for name in passed if bool(runs.arms[name].get("found")) == bool(runs.arms[passed[0]].get("found"))]
    words = {arms[name].reading for name in widest} - {OPEN}
    if len(words) > 1:
        said = "; ".join(_told(arms, name) for name in widest)
        return _Removal(OPEN, tuple(widest), f"Two ways of the same removal disagree: {said}.")
    word = next(iter(words), OPEN)
    decided = [arms[name] for name in widest if arms[name].reading == word != OPEN]
    # Arms of the same word agree, however sure each is of its own small loss.
    still_open = [arms[name] for name in widest if arms[name].reading == OPEN]
    if any(not _overlap(a.own, b.own) for a in decided for b in still_open):
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
    """Whether a removal of style costs accuracy, and its only fault is that the function went with the words. Matched
    controls are not asked for: that the words open the checks is what their removal shows."""
    return reading.lost and _function_alone_failed(reading)


def _may_be_opening(reading: Reading) -> bool:
    """Whether the same could be, since the interval of what it costs holds the bound."""
    return reading.reading == OPEN and _function_alone_failed(reading)


def _function_alone_failed(reading: Reading) -> bool:
    return reading.failed != [] and all(map(_is_function, reading.failed))


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
    what = change[DROP] if reading.lost else change.get(reading.reading, "loss of accuracy")
    start = f"{name}: {what} {text(reading.own)}"
    return f"{start} ({measured})" if measured else start


def _open(claim: str, reading: Reading) -> str:
    """Why a removal leaves the verdict undetermined."""
    said = f"Whether accuracy changes with {WITHOUT[claim]} is open: loss {text(reading.own)}"
    if text(reading.own) != text(reading.net):
        said += f", of the gain {text(reading.net)}"
    if reading.beyond is not None:
        said += f", beyond matched controls {text(reading.beyond)}"
    if reading.above_control is not None and text(reading.own) != text(reading.above_control):
        said += f", beyond the control fine-tune's {text(reading.above_control)}"
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
        "arms": arms_json(verdict),
    }


def arms_json(verdict: Verdict) -> dict[str, Any]:
    """Every arm's reading and checks, by name."""
    return {
        name: {
            "claim": r.claim,
            "own": r.own.as_dict(),
            "net": r.net.as_dict(),
            "beyond": None if r.beyond is None else r.beyond.as_dict(),
            "above_control": None if r.above_control is None else r.above_control.as_dict(),
            "control_drop": r.control,
            "reading": r.reading,
            "why": r.why,
            "needed": r.needed,
            "failed": r.failed,
            "checks": as_rows(r.checks),
        }
        for name, r in verdict.arms.items()
    }
