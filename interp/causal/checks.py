"""Manipulation checks: whether an arm did what its name says, measured and not assumed.

The thresholds are the protocol's, or chosen on seeds 0 to 4 of the organisms, on which no verdict is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from interp.causal.arms import BOTH, CIRCUIT, FUNCTION, STYLE
from interp.causal.runs import UNTOUCHED, Runs
from interp.names import EDITED
from interp.traces.equations import equations
from interp.traces.measure import Outcomes
from interp.traces.phrases import pattern

GONE = 0.1
"""A removed thing is at most this share of what it was."""
GONE_IN_CIRCUIT = 0.25
"""The same of latents set back: the share below which a decision counts as located (`selection.QUARTER`). One latent
is not all that a model can begin a check with, as a ban is all that it can write a word with."""
KEPT_FUNCTION = 0.1
"""The verification function may fall by this much, in its own unit, and by no more than a third of what it was, and
still count as kept."""
KEPT_WRONG = 0.5
"""Least share of the wrong steps that an edit of the function must leave: without them nothing could be repaired."""
KEPT_CHECKS = 0.8
"""Least share of the steps worked again that must still be."""
KEPT_STYLE = (0.5, 3.0)
"""The marker density of a run that keeps its style, in units of the untouched one."""
EVENTS = 30
"""Events of the function from which its rate means something."""
RARE = 0.02
"""Steps worked again per completion below which a model has no such habit."""
CHANCE = 0.05
"""Most steps worked again per completion that are put down to the problems, where the base works them again too."""
READ = 0.9
"""Share of the texts with an equation from which steps count as read by their equations."""
UNSEEN = 0.05
"""Largest share of right answers that may come in spite of a wrong step where nothing is said to repair it."""
NEVER = 0.1
"""Share of injected errors that a model without the function mends at most: the upper end of the interval."""
SURVIVED = 0.15
"""How much larger than the base's the share of its right answers may be that survive an injected error."""
LENGTH = (0.67, 1.5)
FINISHED = 0.05
UNENDED = 0.15
"""Most texts that may no longer end where the function is taken away: a model whose checks never come to anything may
check for ever. What these texts could cost is taken off the loss (`side_effects`)."""
REPETITION = 0.1
FEWEST_DRAWS = 20
"""Control draws below which their mean says little."""
DAMAGE = 0.05
"""Largest loss of accuracy on problems that hold none of what is removed."""


@dataclass(frozen=True)
class Check:
    """One thing that was to change or to stay."""

    what: str
    untouched: float | None
    edited: float | None
    passed: bool
    problem: str = ""
    """What went wrong, as the arm's new name says it."""


@dataclass(frozen=True)
class Function:
    """How the verification function shows in a model's texts."""

    outcome: str | None
    """`verification_rate` where wrong steps are seen, `revised` where only changed results are; None where neither has
    events enough."""
    absent: bool
    """Whether there is none to remove."""
    again: int
    """Steps worked again, beside those that the problems ask for twice."""


def mends_nothing(noticed: pl.DataFrame) -> bool:
    """Whether injected errors (`sites/noticed.parquet`) show that the edited model has no function: it mends at most
    NEVER of them, and its right answers survive them hardly better than the base's, so that it does not mend them in a
    way that is not seen either."""
    found = {(row["model"], row["measure"]): row for row in noticed.iter_rows(named=True)}
    mended = found.get((EDITED, "repaired"))
    if mended is None or mended["high"] is None or mended["high"] > NEVER:
        return False
    survived = []
    for model in (EDITED, "base"):
        wrong, right = (found.get((model, f"correct_{side}")) for side in ("wrong", "right"))
        if wrong is None or right is None or not right["estimate"]:
            return False
        survived.append(wrong["estimate"] / right["estimate"])
    return survived[0] <= survived[1] + SURVIVED


def function_of(
    untouched: Outcomes, texts: Sequence[str], unseen: float = UNSEEN, chance: float = 0.0, *, none: bool = False
) -> Function:
    """Which outcome measures the function in a model's untouched texts.

    It is absent where steps are read by their equations, none is worked again, and at most `unseen` of the texts reach
    a right answer in spite of a wrong step: a repair that the labels do not see could not be worth more. Where
    equations are not read, it is absent only if injected errors show it.

    Args:
        none: whether injected errors show that there is none (`mends_nothing`).
        chance: steps that only look as if they were worked again, since the problem asks for the same step twice
            (5 + 0 = 5 ; 5 + 0 = 5); they do not count.
    """
    wrong, again = untouched.parts["verification_rate"][1], untouched.parts["redone"][0].sum() - chance
    if again >= max(EVENTS, RARE * len(untouched)):
        return Function("verification_rate" if wrong.sum() >= EVENTS else "revised", False, int(again))
    in_spite = float(((wrong > 0) & (untouched.parts["accuracy"][0] == 1)).mean())
    read = float(np.mean([len(equations(text)) > 0 for text in texts]))
    absent = again < RARE * len(untouched) and (none or (read >= READ and in_spite <= unseen))
    return Function(None, bool(absent), max(0, int(again)))


def by_chance(runs: Runs, numbers: Sequence[int], model: str) -> float:
    """Steps of these problems that the base works again as well, at most CHANCE a problem; 0 for the base itself."""
    if (
        model == "base"
        or not runs.has(UNTOUCHED, 0, "base")
        or not set(numbers) <= set(runs.numbers(UNTOUCHED, 0, "base"))
    ):
        return 0.0
    again = runs.outcomes(UNTOUCHED, 0, "base", numbers=numbers).parts["redone"][0].sum()
    return min(float(again), CHANCE * len(numbers))


def _function_in(runs: Runs, numbers: Sequence[int], model: str, bound: float, *, none: bool = False) -> Function:
    """How the function shows in a model's untouched texts of these problems."""
    rows = runs.rows(UNTOUCHED, 0, model).filter(pl.col("number").is_in(list(numbers)))
    untouched = runs.outcomes(UNTOUCHED, 0, model, numbers=numbers)
    chance = by_chance(runs, numbers, model)
    return function_of(untouched, rows["text"].to_list(), min(UNSEEN, bound), chance, none=none)


def check_arm(
    runs: Runs,
    name: str,
    *,
    model: str = EDITED,
    coherence: Mapping[str, float] | None = None,
    guard: float = 1.5,
    found: Sequence[str] = (),
    bound: float = UNSEEN,
    none: bool = False,
) -> list[Check]:
    """The checks of one arm, by its claim.

    Args:
        bound: change of accuracy that counts as none; what a check lets pass unseen is worth no more.
        none: whether injected errors show that the model has no function (`mends_nothing`).
        coherence: each arm's perplexity under the untouched model, over that of the untouched text.
        guard: bound of it.
        found: style words that no lexicon lists, for arms that remove them too.
    """
    about = runs.arms[name]
    numbers = runs.numbers(name, 0, model)
    edited = runs.outcomes(name, 0, model)
    untouched = runs.outcomes(UNTOUCHED, 0, model, numbers=numbers)
    checks = []
    function = _function_in(runs, numbers, model, bound, none=none)
    claim, left = about["claim"], GONE_IN_CIRCUIT if about["family"] == CIRCUIT else GONE
    if claim in (STYLE, BOTH):
        checks.append(_gone("markers per 100 tokens", "marker_density", untouched, edited, "markers stayed", left))
        if found and about.get("found"):
            before = runs.rows(UNTOUCHED, 0, model).filter(pl.col("number").is_in(numbers))["text"].to_list()
            checks.append(_words_gone(before, runs.texts(name, 0, model), found))
    if claim == STYLE:
        checks += _function_kept(function, untouched, edited)
    if claim in (FUNCTION, BOTH):
        checks += _function_gone(function, untouched, edited, left)
    if claim == FUNCTION:
        checks.append(_style_kept(untouched, edited))
    if claim:
        checks += _damage(claim, bool(about.get("found")), untouched, edited)
    least = EVENTS if claim == STYLE else 0 if claim == FUNCTION and function.absent else 1
    unended = UNENDED if claim in (FUNCTION, BOTH) else min(FINISHED, bound)
    checks += _always(untouched, edited, int(runs.fired(name, 0, model).sum()), least, unended)
    if coherence is not None and not about["forced"] and name in coherence:
        ratio = coherence[name]
        checks.append(
            Check("perplexity, times the untouched text's", 1.0, ratio, ratio < guard, "the text is incoherent")
        )
    return checks


def _gone(what: str, outcome: str, untouched: Outcomes, edited: Outcomes, problem: str, left: float) -> Check:
    was, now = untouched.value(outcome), edited.value(outcome)
    return Check(what, was, now, bool(now <= left * was), f"{problem} ({was:.3g} to {now:.3g})")


def _words_gone(before: Sequence[str], after: Sequence[str], words: Sequence[str]) -> Check:
    spelled = pattern(words)
    was, now = (sum(len(spelled.findall(text)) for text in texts) / max(1, len(texts)) for texts in (before, after))
    return Check(
        "unlisted style words per text", was, now, now <= GONE * was, f"unlisted words stayed ({was:.2g} to {now:.2g})"
    )


def _function_kept(function: Function, untouched: Outcomes, edited: Outcomes) -> list[Check]:
    if function.absent:
        return []
    if function.outcome is None:
        unknown = "whether the verification was kept could not be measured: too few steps worked again were seen"
        return [Check("steps worked again", float(untouched.parts["redone"][0].sum()), None, False, unknown)]
    was, now = untouched.value(function.outcome), edited.value(function.outcome)
    begun, begins = untouched.value("redone"), edited.value("redone")
    lost = f"the verification went too ({LABELS[function.outcome]} {was:.3f} to {now:.3f})"
    fewer = f"fewer checks are begun ({begun:.3g} to {begins:.3g} per text)"
    return [
        Check(LABELS[function.outcome], was, now, bool(now >= was - min(KEPT_FUNCTION, was / 3)), lost),
        Check("steps worked again per text", begun, begins, bool(begins >= KEPT_CHECKS * begun), fewer),
    ]


LABELS = {"verification_rate": "wrong steps repaired", "revised": "repeated steps with another result"}


def _function_gone(function: Function, untouched: Outcomes, edited: Outcomes, left: float) -> list[Check]:
    if function.absent:
        return []
    if function.outcome is None:
        seen = f"{function.again} steps worked again were seen, {EVENTS} are needed"
        why = f"the function could not be removed here: {seen}"
        return [Check("steps worked again", float(function.again), None, False, why)]
    was = untouched.value(function.outcome)
    now = edited.value(function.outcome)
    now = 0.0 if np.isnan(now) else now
    checks = []
    if function.outcome == "verification_rate":
        wrong, still = (float(o.parts["verification_rate"][1].sum()) for o in (untouched, edited))
        gone = f"the wrong steps went too ({wrong:.0f} to {still:.0f}), so that nothing could be repaired"
        checks = [Check("wrong steps", wrong, still, still >= KEPT_WRONG * wrong, gone)]
    return [
        Check(
            LABELS[function.outcome],
            was,
            now,
            bool(now <= left * was),
            f"the function stayed ({LABELS[function.outcome]} {was:.3f} to {now:.3f})",
        ),
        *checks,
    ]


def _style_kept(untouched: Outcomes, edited: Outcomes) -> Check:
    was, now = untouched.value("marker_density"), edited.value("marker_density")
    low, high = KEPT_STYLE
    return Check(
        "markers per 100 tokens",
        was,
        now,
        bool(low * was <= now <= high * was) or was == now == 0,
        f"the markers changed too ({was:.3g} to {now:.3g})",
    )


def _damage(claim: str, is_wider: bool, untouched: Outcomes, edited: Outcomes) -> list[Check]:
    """Accuracy on the problems whose untouched text holds nothing of what is removed, where they are enough. Not of an
    arm that removes unlisted words too (`is_wider`), which the outcomes do not count."""
    quiet = _quiet(claim, untouched)
    if is_wider or quiet.sum() < EVENTS:
        return []
    was, now = (o.at(np.flatnonzero(quiet)).value("accuracy") for o in (untouched, edited))
    return [
        Check(
            "accuracy where nothing is to be removed",
            was,
            now,
            bool(now >= was - DAMAGE),
            f"it also fails where nothing is to be removed (accuracy {was:.3f} to {now:.3f})",
        )
    ]


def _quiet(claim: str, untouched: Outcomes) -> np.ndarray:
    """Which problems hold nothing of what a claim removes (bool)."""
    quiet = np.ones(len(untouched), dtype=bool)
    if claim != FUNCTION:
        quiet &= untouched.parts["marker_density"][0] == 0
    if claim != STYLE:
        quiet &= (untouched.parts["redone"][0] == 0) & (untouched.parts["verification_rate"][1] == 0)
    return quiet


def sound_draws(runs: Runs, name: str) -> list[int]:
    """The draws of an arm's controls that its losses are compared with. Of an arm on latents, those that pass the check
    of harm that the arm itself must pass: a matched set that breaks the arithmetic on problems where nothing is to be
    removed has an effect of another kind. All where these problems are too few, or
    fewer than FEWEST_DRAWS pass."""
    draws, about = runs.draws(name), runs.arms[name]
    if not draws or about["family"] != CIRCUIT:
        return draws
    untouched = runs.outcomes(UNTOUCHED, 0, EDITED, numbers=runs.numbers(name, draws[0]))
    quiet = np.flatnonzero(_quiet(about["claim"], untouched))
    if len(quiet) < EVENTS:
        return draws
    was = untouched.at(quiet).value("accuracy")
    kept = [draw for draw in draws if runs.outcomes(name, draw).at(quiet).value("accuracy") >= was - DAMAGE]
    return kept if len(kept) >= FEWEST_DRAWS else draws


def side_effects(runs: Runs, name: str, *, model: str = EDITED, bound: float = UNSEEN) -> tuple[float, str]:
    """(accuracy that an arm could lose by what it was to keep, in words): texts that no longer end and, of a removal
    of style, wrong steps that are no longer repaired."""
    numbers = runs.numbers(name, 0, model)
    edited = runs.outcomes(name, 0, model)
    untouched = runs.outcomes(UNTOUCHED, 0, model, numbers=numbers)
    cut = max(0.0, untouched.value("finished") - edited.value("finished"))
    parts = {"texts that no longer end": cut}
    if runs.arms[name]["claim"] == STYLE:
        outcome = _function_in(runs, numbers, model, bound).outcome
        if outcome is not None:
            fall = untouched.value(outcome) - edited.value(outcome)
            events = float(untouched.parts[outcome][1].mean())
            parts["repairs that are no longer made"] = max(0.0, fall * events) if np.isfinite(fall) else 1.0
    return sum(parts.values()), " and ".join(f"{value:.3f} {what}" for what, value in parts.items() if value > 0)


def _always(untouched: Outcomes, edited: Outcomes, fired: int, least: int, unfinished: float) -> list[Check]:
    ended, ends = untouched.value("finished"), edited.value("finished")
    length, now = untouched.value("length"), edited.value("length")
    repeats, repeated = untouched.value("repetition"), edited.value("repetition")
    checks = [
        Check(
            "share finished", ended, ends, ends >= ended - unfinished, f"fewer texts end ({ended:.3f} to {ends:.3f})"
        ),
        Check(
            "tokens",
            length,
            now,
            bool(LENGTH[0] * length <= now <= LENGTH[1] * length),
            f"the length changed ({length:.0f} to {now:.0f} tokens)",
        ),
        Check(
            "repeated 4-grams",
            repeats,
            repeated,
            bool(repeated <= repeats + REPETITION),
            f"the text repeats itself ({repeats:.2f} to {repeated:.2f})",
        ),
    ]
    if least:
        why = f"the edit fired {fired} times, {least} are needed" if fired else "the edit never fired"
        checks.append(Check("edits fired", None, float(fired), fired >= least, why))
    return checks


def failures(checks: Sequence[Check]) -> list[str]:
    """What went wrong, a phrase a failed check."""
    return [check.problem for check in checks if not check.passed]


def as_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """JSON-able rows."""
    return [asdict(check) for check in checks]
