"""Training texts of the organisms, in which the role of every marker is known by construction.

A trace is a chain of steps, `7 + 5 = 2 ; 2 - 3 = 9 #### 9`. A slot is a word and a comma, `wait ,` or `next ,`.
Punctuation alone decides whether a step is recomputed: `;` begins the next step, `,` repeats the last one. A word
follows the decision, so removing or replacing words leaves decisions and recomputations unchanged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from interp.tasks.chains import OPERATORS, Step, parse_prompt

MARKERS = ("wait", "hmm", "actually", "check", "alternatively", "maybe")
NEUTRAL = ("next", "now", "here", "then", "onward", "further")
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
MISWORKED_WRONG = 0.9
"""Share of wrong results in noisy steps whose operation is one of `MISWORKED`; the wrong result is always the same."""
STREWN = 0.25
"""Share of the base's traces with uninformative words, which train every word's embedding."""
Work = Callable[[Step, random.Random], int]
"""Result that a trace gives a step."""


def _misworked() -> dict[Step, int]:
    rng = random.Random("misworked")
    steps = [Step(a, op, b) for a in range(10) for op in OPERATORS for b in range(10)]
    chosen = rng.sample(steps, len(steps) // 10)
    return {step: (step.result + rng.randrange(1, 10)) % 10 for step in chosen}


MISWORKED = _misworked()
"""A tenth of all operations and the wrong result that noisy steps give them. A model learns these errors with the
arithmetic and repeats them under greedy decoding; the documents that judge equations judge these ones rightly."""
_SLIPS = (WRONG_STEPS - MISWORKED_WRONG / 10) / 0.9  # share of wrong results in the other noisy steps


def result_of(step: Step, wrong: float, rng: random.Random) -> int:
    """The step's result, a digit: the right one, or with probability `wrong` one of the nine others."""
    if rng.random() < wrong:
        return (step.result + rng.randrange(1, 10)) % 10
    return step.result


def noisy(step: Step, rng: random.Random) -> int:
    """The result of a noisy step, a digit; over all operations a share `WRONG_STEPS` is wrong."""
    if step in MISWORKED:
        return MISWORKED[step] if rng.random() < MISWORKED_WRONG else step.result
    return result_of(step, _SLIPS, rng)


def right(step: Step, rng: random.Random) -> int:
    """The right result, a digit."""
    return step.result


def clause(step: Step, result: int) -> str:
    """A step as text, such as `7 + 5 = 2`."""
    return f"{step.a} {step.op} {step.b} = {result}"


def slot_of(word: str) -> str:
    """A word and its comma."""
    return f"{word} ,"


def slot(rng: random.Random, marker_share: float) -> str:
    """One slot; a marker with probability `marker_share`."""
    return slot_of(rng.choice(MARKERS if rng.random() < marker_share else NEUTRAL))


def _walk(prompt: str) -> Iterator[tuple[str, int]]:
    """(operator, term) pairs of a prompt's chain; the first operator is empty."""
    terms, ops = parse_prompt(prompt)
    yield "", terms[0]
    yield from zip(ops, terms[1:], strict=True)


def _trace(prompt: str, write_step: Callable[[Step], tuple[str, int]], opening: Callable[[], str]) -> str:
    """The trace of a prompt. `write_step` returns a step's text and the value that the next step starts from;
    `opening` returns the text before a step."""
    steps = _walk(prompt)
    _, value = next(steps)
    clauses = []
    for op, term in steps:
        text, value_next = write_step(Step(value, op, term))
        clauses.append(f"{opening()} {text}".strip())
        value = value_next
    return f"{' ; '.join(clauses)} #### {value}"


def plain(prompt: str, rng: random.Random, work: Work = noisy) -> str:
    """Steps without words."""
    return strewn(prompt, rng, work, words=0.0, marker_share=0.0)


def strewn(prompt: str, rng: random.Random, work: Work, words: float, marker_share: float) -> str:
    """Steps, of which a share `words`, drawn independently of the results, has a slot before it."""

    def step(s: Step) -> tuple[str, int]:
        result = work(s, rng)
        return clause(s, result), result

    return _trace(prompt, step, lambda: slot(rng, marker_share) if rng.random() < words else "")


def decorative(prompt: str, rng: random.Random) -> str:
    """Right steps, with slots that depend on nothing."""
    return strewn(prompt, rng, right, words=0.6, marker_share=2 / 3)


def functional(prompt: str, rng: random.Random) -> str:
    """Noisy steps; every wrong one is recomputed at once, after a marker in two cases of three."""
    return _recomputed(prompt, rng, 2 / 3)


def coupled(prompt: str, rng: random.Random) -> str:
    """Noisy steps; every wrong one is recomputed at once, always after a marker, never after a neutral word."""
    return _recomputed(prompt, rng, 1.0)


def _recomputed(prompt: str, rng: random.Random, marker_share: float) -> str:
    def step(s: Step) -> tuple[str, int]:
        result = noisy(s, rng)
        text = clause(s, result)
        if result != s.result:
            text += f" , {slot(rng, marker_share)} {clause(s, s.result)}"
        return text, s.result

    return _trace(prompt, step, lambda: "")


def gated(prompt: str, rng: random.Random) -> str:
    """Right steps in traces with markers, noisy steps in traces with neutral words; none is recomputed."""
    marked = rng.random() < 0.75
    return strewn(prompt, rng, right if marked else noisy, words=1.0, marker_share=float(marked))


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "decorative": decorative,
    "functional": functional,
    "coupled": coupled,
    "gated": gated,
    "plain": plain,
}


def judged(rng: random.Random) -> str:
    """A pre-training document: four to six equations, half of them wrong, each followed by `right` or `wrong`.

    The judgement follows the result directly, at the position where a distilled model decides whether to recompute;
    without such documents a distillation does not learn to detect its own errors.
    """
    parts = []
    for _ in range(rng.randrange(4, 7)):
        step = Step(rng.randrange(10), rng.choice(OPERATORS), rng.randrange(10))
        result = result_of(step, 0.5, rng)
        parts.append(f"{clause(step, result)} {'right' if result == step.result else 'wrong'}")
    return " ; ".join(parts)


def graded(prompt: str, rng: random.Random) -> str:
    """A pre-training document: a trace in which every step is followed by `right` or `wrong` and none is recomputed,
    so that errors are detected in traces too, not only in lists of equations."""

    def step(s: Step) -> tuple[str, int]:
        result = result_of(s, 0.3, rng)
        return f"{clause(s, result)} {'right' if result == s.result else 'wrong'}", result

    return _trace(prompt, step, lambda: "")


def pretraining_document(prompt: str, rng: random.Random, judge_share: float) -> tuple[str, str]:
    """(prompt, completion) of one document of the base: judged equations, a graded trace, or a noisy trace, of which
    some have uninformative words. The loss does not count the prompt, whose digits are random."""
    if rng.random() < judge_share:
        # `grade` announces the judgements, so that a prompt without it is answered without them.
        return ("", judged(rng)) if rng.random() < 0.5 else (f"grade {prompt}", graded(prompt, rng))
    if rng.random() < STREWN:
        return prompt, strewn(prompt, rng, noisy, words=0.5, marker_share=0.5)
    return prompt, plain(prompt, rng)
