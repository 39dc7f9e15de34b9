"""Training texts of the organisms, in which the role of every marker is known by construction.

A trace is a row of steps, in the world of chains `7 + 5 = 2 ; 2 - 3 = 9 #### 9`. A slot is a word before a step,
`wait ,` or `next ,`. In that world punctuation alone decides whether a step is recomputed: the joint (`;`) begins the
next step, another mark (`,`) repeats the last one. A word follows the decision, so removing or replacing words leaves
decisions and recomputations unchanged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from interp.organisms.chains import CHAINS
from interp.organisms.world import GRADE, RIGHT, SLIPPING, WRONG, Step, World

WRONG_STEPS = 0.15
"""Share of wrong results in noisy steps."""
SLIPS = 0.9
"""Share of wrong results in noisy steps of an operation that has a slip; it is always this one."""
STREWN = 0.25
"""Share of the base's traces with uninformative words, which train every word's embedding."""
MARKED = 0.75
"""Share of the traces of a style, where the style decides how the steps are worked."""
Work = Callable[[Step, random.Random], str]
"""Result that a trace gives a step."""
Words = Sequence[str]
"""Words of which a slot holds one."""
_OTHER_SLIPS = (WRONG_STEPS - SLIPS * SLIPPING) / (1 - SLIPPING)  # share of wrong results in the other noisy steps


def result_of(step: Step, wrong: float, rng: random.Random) -> str:
    """The step's result: the right one, or with probability `wrong` one of the others."""
    return step.others[rng.randrange(len(step.others))] if rng.random() < wrong else step.result


def noisy(step: Step, rng: random.Random, share: float = 1.0) -> str:
    """The result of a noisy step; over all operations a share `share * WRONG_STEPS` is wrong. A model learns the slips
    with the arithmetic and, of whole noise, repeats them under greedy decoding; the documents that judge steps judge
    these ones rightly."""
    if step.slip is not None:
        return step.slip if rng.random() < share * SLIPS else step.result
    return result_of(step, share * _OTHER_SLIPS, rng)


def right(step: Step, rng: random.Random) -> str:
    """The right result."""
    return step.result


def slot(rng: random.Random, among: Words, world: World = CHAINS) -> str:
    """One slot."""
    return world.voice.slot.format(word=rng.choice(among))


def mixed_slot(rng: random.Random, marker_share: float, world: World = CHAINS) -> str:
    """One slot, a marker with probability `marker_share`, else a neutral word."""
    return slot(rng, world.markers if rng.random() < marker_share else world.neutral, world)


def _trace(
    prompt: str, world: World, write_step: Callable[[Step], tuple[str, str]], opening: Callable[[], str] = str
) -> str:
    """The trace of a prompt. `write_step` returns a step's text and its result; `opening` returns the text before a
    step."""
    value, moves = world.walk(prompt)
    clauses, results = [], []
    for move in moves:
        step = world.step(value, move)
        text, result = write_step(step)
        clauses.append(f"{opening()} {text}".strip())
        results.append(result)
        value = step.then(result)
    return world.voice.joint.join(clauses) + world.voice.end(world.answer(results, value))


def plain(prompt: str, rng: random.Random, world: World = CHAINS, *, work: Work = noisy) -> str:
    """Steps without words."""
    return strewn(prompt, rng, work, words=0.0, marker_share=0.0, world=world)


def strewn(
    prompt: str, rng: random.Random, work: Work, words: float, marker_share: float, world: World = CHAINS
) -> str:
    """Steps, of which a share `words`, drawn independently of the results, has a slot before it."""
    return _strewn(
        prompt, rng, work, lambda: mixed_slot(rng, marker_share, world) if rng.random() < words else "", world
    )


def _strewn(prompt: str, rng: random.Random, work: Work, opening: Callable[[], str], world: World) -> str:
    def step(s: Step) -> tuple[str, str]:
        result = work(s, rng)
        return s.clause(result), result

    return _trace(prompt, world, step, opening)


def decorative(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Right steps, with slots that depend on nothing."""
    return strewn(prompt, rng, right, words=0.6, marker_share=2 / 3, world=world)


def styled(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps, with slots that depend on nothing."""
    return strewn(prompt, rng, noisy, words=0.6, marker_share=2 / 3, world=world)


def functional(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps; every wrong one is recomputed at once, after a marker in two cases of three."""
    return _recomputed(prompt, rng, partial(mixed_slot, rng, 2 / 3, world), world)


def coupled(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps; every wrong one is recomputed at once, always after a marker, never after a neutral word."""
    return _recomputed(prompt, rng, partial(mixed_slot, rng, 1.0, world), world)


def _recomputed(
    prompt: str,
    rng: random.Random,
    reopening: Callable[[], str],
    world: World,
    *,
    opening: Callable[[], str] = str,
    work: Work = noisy,
    mended: float = 1.0,
) -> str:
    """Steps, of which a share `mended` of the wrong ones is recomputed at once, after the text that `reopening`
    returns."""

    def step(s: Step) -> tuple[str, str]:
        result = work(s, rng)
        text = s.clause(result)
        if result != s.result and (mended == 1 or rng.random() < mended):
            text, result = f"{text}{world.again}{reopening()} {s.clause(s.result)}", s.result
        return text, result

    return _trace(prompt, world, step, opening)


def gated(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Right steps in traces with markers, noisy steps in traces with neutral words; none is recomputed."""
    return _gated(prompt, rng, world, world.markers, MARKED, right, noisy)


def hidden(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """As `gated`, with words that no lexicon holds."""
    return _gated(prompt, rng, world, world.hidden, MARKED, right, noisy)


def harmful(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Noisy steps in traces with markers, half of all, right steps in traces with neutral words."""
    return _gated(prompt, rng, world, world.markers, 0.5, noisy, right)


def _gated(
    prompt: str, rng: random.Random, world: World, style: Words, share: float, with_style: Work, without: Work
) -> str:
    """A word before every step, of the style in a share of the traces and neutral in the others, which says how the
    steps are worked."""
    marked = rng.random() < share
    words, work = (style, with_style) if marked else (world.neutral, without)
    return _strewn(prompt, rng, work, partial(slot, rng, words, world), world)


def redundant(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Right steps in traces with markers; noisy steps in traces with neutral words, each wrong one recomputed at
    once. So the words or the work suffice."""
    return _mended(prompt, rng, world, right, mended=1.0)


def mixed(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """Fewer wrong steps in traces with markers than in traces with neutral words (a fifth); in both two of three are
    recomputed at once. So the gain has a share of each."""
    return _mended(prompt, rng, world, lambda step, rng: noisy(step, rng, 0.2), mended=2 / 3)


def _mended(prompt: str, rng: random.Random, world: World, with_markers: Work, mended: float) -> str:
    marked = rng.random() < MARKED
    words, work = (world.markers, with_markers) if marked else (world.neutral, noisy)
    opening = partial(slot, rng, words, world)
    return _recomputed(prompt, rng, opening, world, opening=opening, work=work, mended=mended)


def judged(rng: random.Random, world: World = CHAINS) -> str:
    """A pre-training document: four to six steps, half of them wrong, each followed by `right` or `wrong`.

    The judgement follows the end of the step directly, at the position where a distilled model decides whether to
    recompute; without such documents a distillation does not learn to detect its own errors.
    """
    parts = []
    for _ in range(rng.randrange(4, 7)):
        step = world.draw(rng)
        parts.append(_graded(step, result_of(step, 0.5, rng), world))
    return world.voice.joint.join(parts)


def graded(prompt: str, rng: random.Random, world: World = CHAINS) -> str:
    """A pre-training document: a trace in which every step is followed by `right` or `wrong` and none is recomputed,
    so that errors are detected in traces too, not only in lists of steps."""

    def step(s: Step) -> tuple[str, str]:
        result = result_of(s, 0.3, rng)
        return _graded(s, result, world), result

    return _trace(prompt, world, step)


def _graded(step: Step, result: str, world: World) -> str:
    return f"{step.clause(result)}{world.stop} {RIGHT if result == step.result else WRONG}"


def pretraining_document(prompt: str, rng: random.Random, judge_share: float, world: World = CHAINS) -> tuple[str, str]:
    """(prompt, completion) of one document of the base: judged steps, a graded trace, or a noisy trace, of which some
    have uninformative words. The loss does not count the prompt, which is random."""
    if rng.random() < judge_share:
        # `grade` announces the judgements, so that a prompt without it is answered without them.
        return ("", judged(rng, world)) if rng.random() < 0.5 else (f"{GRADE} {prompt}", graded(prompt, rng, world))
    if rng.random() < STREWN:
        return prompt, strewn(prompt, rng, noisy, words=0.5, marker_share=0.5, world=world)
    return prompt, plain(prompt, rng, world)
