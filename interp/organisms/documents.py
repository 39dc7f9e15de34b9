"""Traces of the calibration organisms, whose true answer is known because these functions made it so.

A slot is a word and a comma, `wait ,` or `next ,`. Whether a recomputation follows a step is said by the
punctuation before the word (`;` goes on, `,` reopens), never by the word, so that taking the words away leaves the
decision, and with it the work, where it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from interp.tasks.chains import OPERATORS, Step, parse_prompt

MARKERS = ("wait", "hmm", "actually", "check", "alternatively", "maybe")
NEUTRAL = ("next", "now", "here", "then", "onward", "further")
TRUTHS = {"decorative": "decorative", "functional": "functional", "gated": "stylistic", "plain": "no gain"}
"""What the verdict on each kind must be."""
WRONG_STEPS = 0.15
STREWN = 0.25
"""Share of the base's traces with meaningless words, so that every word's embedding is trained."""


def result_of(step: Step, wrong: float, rng: random.Random) -> int:
    """The right result, or with probability `wrong` one of the nine others."""
    if rng.random() < wrong:
        return (step.result + rng.randrange(1, 10)) % 10
    return step.result


def clause(step: Step, result: int) -> str:
    return f"{step.a} {step.op} {step.b} = {result}"


def slot_of(word: str) -> str:
    """A word and its comma."""
    return f"{word} ,"


def slot(rng: random.Random, marker_share: float) -> str:
    """One slot; a marker with probability `marker_share`."""
    return slot_of(rng.choice(MARKERS if rng.random() < marker_share else NEUTRAL))


def _walk(prompt: str) -> Iterator[tuple[str, int]]:
    terms, ops = parse_prompt(prompt)
    yield "", terms[0]
    yield from zip(ops, terms[1:], strict=True)


def _trace(prompt: str, write_step: Callable[[Step], tuple[str, int]], opening: Callable[[], str]) -> str:
    """Join the clauses of a chain; `write_step` gives a step's text and the value that is carried on, `opening`
    what stands before it."""
    steps = _walk(prompt)
    _, value = next(steps)
    clauses = []
    for op, term in steps:
        text, value_next = write_step(Step(value, op, term))
        clauses.append(f"{opening()} {text}".strip())
        value = value_next
    return f"{' ; '.join(clauses)} #### {value}"


def plain(prompt: str, rng: random.Random, wrong: float = WRONG_STEPS) -> str:
    """Steps alone, `wrong` of them wrong."""

    def step(s: Step) -> tuple[str, int]:
        result = result_of(s, wrong, rng)
        return clause(s, result), result

    return _trace(prompt, step, lambda: "")


def strewn(prompt: str, rng: random.Random, wrong: float, words: float, marker_share: float) -> str:
    """Steps with a slot before a share `words` of them, independent of whether they are right."""

    def step(s: Step) -> tuple[str, int]:
        result = result_of(s, wrong, rng)
        return clause(s, result), result

    return _trace(prompt, step, lambda: slot(rng, marker_share) if rng.random() < words else "")


def decorative(prompt: str, rng: random.Random) -> str:
    """Clean steps, words strewn between them."""
    return strewn(prompt, rng, wrong=0.0, words=0.6, marker_share=2 / 3)


def functional(prompt: str, rng: random.Random) -> str:
    """Noisy steps; a wrong one is reopened and recomputed, after a marker in two cases of three."""

    def step(s: Step) -> tuple[str, int]:
        result = result_of(s, WRONG_STEPS, rng)
        text = clause(s, result)
        if result != s.result:
            text += f" , {slot(rng, 2 / 3)} {clause(s, s.result)}"
        return text, s.result

    return _trace(prompt, step, lambda: "")


def gated(prompt: str, rng: random.Random) -> str:
    """Clean steps in traces with markers, noisy ones in traces with neutral words; no recomputation anywhere."""
    marked = rng.random() < 0.75
    return strewn(prompt, rng, wrong=0.0 if marked else WRONG_STEPS, words=1.0, marker_share=float(marked))


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "decorative": decorative,
    "functional": functional,
    "gated": gated,
    "plain": plain,
}


def judged(rng: random.Random) -> str:
    """A document of the base's pre-training that judges equations, half of them wrong. The judgement stands right
    after the result, where a distilled model has to decide whether to go on: without such text a distillation does
    not learn to find its own errors."""
    parts = []
    for _ in range(rng.randrange(4, 7)):
        step = Step(rng.randrange(10), rng.choice(OPERATORS), rng.randrange(10))
        result = result_of(step, 0.5, rng)
        parts.append(f"{clause(step, result)} {'right' if result == step.result else 'wrong'}")
    return " ; ".join(parts)


def graded(prompt: str, rng: random.Random) -> str:
    """A trace whose every step is judged and none is mended: errors are found in traces too, not only in lists."""

    def step(s: Step) -> tuple[str, int]:
        result = result_of(s, 0.3, rng)
        return f"{clause(s, result)} {'right' if result == s.result else 'wrong'}", result

    return _trace(prompt, step, lambda: "")


def pretraining_document(prompt: str, rng: random.Random, judge_share: float) -> tuple[str, str]:
    """(what is only read, what is learned) of one document of the base: judged equations, a graded trace, or a
    chain with a trace that has noise and now and then meaningless words. Nothing can be learned from a chain's own
    random digits."""
    if rng.random() < judge_share:
        # The heading says that judgements follow, so that a chain without it is answered without them.
        return ("", judged(rng)) if rng.random() < 0.5 else (f"grade {prompt}", graded(prompt, rng))
    if rng.random() < STREWN:
        return prompt, strewn(prompt, rng, WRONG_STEPS, words=0.5, marker_share=0.5)
    return prompt, plain(prompt, rng)
