"""Training texts of the organisms, in which the role of every marker is known by construction.

A trace is a row of steps, in the world of chains `7 + 5 = 2 ; 2 - 3 = 9 #### 9`. A slot is a word before a step,
`wait ,` or `next ,`. Punctuation alone decides whether a step is recomputed: the joint (`;`) begins the next step,
another mark (`,`) repeats the last one. A word follows the decision, so removing or replacing words leaves decisions
and recomputations unchanged.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from interp.organisms.chains import CHAINS
from interp.organisms.world import SLIPPING, Step, World

TRUTHS = {
    "decorative": "decorative",
    "functional": "functional",
    "coupled": "functional, opened by its words",
    "gated": "stylistic",
    "plain": "no gain beyond training",
}
"""The correct verdict on each kind of organism."""
PLANTED = {"functional": "deciding", "coupled": "deciding", "gated": "wording"}
"""Kind of organism to the class of latents that it must have (`features.circuit`); the others have none."""
WRONG_STEPS = 0.15
"""Share of wrong results in noisy steps."""
SLIPS = 0.9
"""Share of wrong results in noisy steps of an operation that has a slip; it is always this one."""
STREWN = 0.25
"""Share of the base's traces with uninformative words, which train every word's embedding."""
Work = Callable[[Step, random.Random], str]
"""Result that a trace gives a step."""
_OTHER_SLIPS = (WRONG_STEPS - SLIPS * SLIPPING) / (1 - SLIPPING)  # share of wrong results in the other noisy steps


def result_of(step: Step, wrong: float, rng: random.Random) -> str:
    """The step's result: the right one, or with probability `wrong` one of the others."""
    return step.others[rng.randrange(len(step.others))] if rng.random() < wrong else step.result


def noisy(step: Step, rng: random.Random) -> str:
    """The result of a noisy step; over all operations a share `WRONG_STEPS` is wrong. A model learns the slips with
    the arithmetic and repeats them under greedy decoding; the documents that judge steps judge these ones rightly."""
    if step.slip is not None:
        return step.slip if rng.random() < SLIPS else step.result
    return result_of(step, _OTHER_SLIPS, rng)


def right(step: Step, rng: random.Random) -> str:
    """The right result."""
    return step.result


def slot(rng: random.Random, marker_share: float, world: World = CHAINS) -> str:
    """One slot; a marker with probability `marker_share`."""
    return world.voice.slot.format(word=rng.choice(world.markers if rng.random() < marker_share else world.neutral))


def _trace(
    prompt: str, world: World, write_step: Callable[[Step], tuple[str, str]], opening: Callable[[], str] = str
) -> str:
    """The trace of a prompt. `write_step` returns a step's text and the value that the next step starts from;
    `opening` returns the text before a step."""
    value, moves = world.walk(prompt)
    clauses = []
    for move in moves:
        text, value_next = write_step(world.step(value, move))
        clauses.append(f"{opening()} {text}".strip())
        value = value_next
    return world.voice.joint.join(clauses) + world.voice.end(value)


def plain(prompt: str, rng: random.Random, world: World = CHAINS, *, work: Work = noisy) -> str:
    """Steps without words."""
    return strewn(prompt, rng, work, words=0.0, marker_share=0.0, world=world)


def strewn(
    prompt: str, rng: random.Random, work: Work, words: float, marker_share: float, world: World = CHAINS
) -> str:
    """Steps, of which a share `words`, drawn independently of the results, has a slot before it."""

    def step(s: Step) -> tuple[str, str]:
        result = work(s, rng)
        return s.clause(result), result

    return _trace(prompt, world, step, lambda: slot(rng, marker_share, world) if rng.random() < words else "")


def decorative(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Right steps, with slots that depend on nothing."""
    return strewn(prompt, rng, right, words=0.6, marker_share=2 / 3, world=world)


def functional(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps; every wrong one is recomputed at once, after a marker in two cases of three."""
    return _recomputed(prompt, rng, 2 / 3, world)


def coupled(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps; every wrong one is recomputed at once, always after a marker, never after a neutral word."""
    return _recomputed(prompt, rng, 1.0, world)


def _recomputed(prompt: str, rng: random.Random, marker_share: float, world: World) -> str:
    def step(s: Step) -> tuple[str, str]:
        result = noisy(s, rng)
        text = s.clause(result)
        if result != s.result:
            text += f"{world.again}{slot(rng, marker_share, world)} {s.clause(s.result)}"
        return text, s.result

    return _trace(prompt, world, step)


def gated(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Right steps in traces with markers, noisy steps in traces with neutral words; none is recomputed."""
    marked = rng.random() < 0.75
    work = right if marked else noisy
    return strewn(prompt, rng, work, words=1.0, marker_share=float(marked), world=world)


KINDS: dict[str, Callable[[str, random.Random, World], str]] = {
    "decorative": decorative,
    "functional": functional,
    "coupled": coupled,
    "gated": gated,
    "plain": plain,
}


def judged(rng: random.Random, world: World = CHAINS) -> str:
    """A pre-training document: four to six steps, half of them wrong, each followed by `right` or `wrong`.

    The judgement follows the result directly, at the position where a distilled model decides whether to recompute;
    without such documents a distillation does not learn to detect its own errors.
    """
    parts = []
    for _ in range(rng.randrange(4, 7)):
        step = world.draw(rng)
        parts.append(_graded(step, result_of(step, 0.5, rng)))
    return world.voice.joint.join(parts)


def graded(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """A pre-training document: a trace in which every step is followed by `right` or `wrong` and none is recomputed,
    so that errors are detected in traces too, not only in lists of steps."""

    def step(s: Step) -> tuple[str, str]:
        result = result_of(s, 0.3, rng)
        return _graded(s, result), result

    return _trace(prompt, world, step)


def _graded(step: Step, result: str) -> str:
    return f"{step.clause(result)} {'right' if result == step.result else 'wrong'}"


def pretraining_document(prompt: str, rng: random.Random, judge_share: float, world: World = CHAINS) -> tuple[str, str]:
    """(prompt, completion) of one document of the base: judged steps, a graded trace, or a noisy trace, of which some
    have uninformative words. The loss does not count the prompt, which is random."""
    if rng.random() < judge_share:
        # `grade` announces the judgements, so that a prompt without it is answered without them.
        return ("", judged(rng, world)) if rng.random() < 0.5 else (f"grade {prompt}", graded(prompt, rng, world))
    if rng.random() < STREWN:
        return prompt, strewn(prompt, rng, noisy, words=0.5, marker_share=0.5, world=world)
    return prompt, plain(prompt, rng, world)
