"""Errors put into a right step of a text: a digit, a sign or an operand of an equation; in a sentence a number, or the
last word.

Whether a model notices a mistake that it did not make is its verification function, measured directly: the prefix with
the error and the untouched one differ in the step alone, and the model goes on from both.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from interp.tasks.base import Task
from interp.traces.equations import Equation, equations, recomputed
from interp.traces.events import Event
from interp.traces.lexicon import Lexicon
from interp.traces.measure import equal
from interp.traces.redone import redone
from interp.traces.sentences import sentences

DIGIT, SIGN, OPERAND, NUMBER, WORD = "digit", "sign", "operand", "number", "word"
KINDS = (DIGIT, SIGN, OPERAND)
"""Errors in an equation: of its result, its operator, or its second operand. A NUMBER is changed in a sentence, and
where it holds no new one the last WORD, if that is of the problem ("so it is with Ann")."""
_FIGURES = re.compile(r"\d+")
_NUMBER = re.compile(r"(?:\d{1,3}(?:\{?,\}?\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d]+")
_SLOT = 2
"""Words before the last one in which two sentences agree that differ in it alone."""
_SEPARATOR = re.compile(r"\{?,\}?")
_SIGNS = re.compile(r"[-+*/×÷−]")
_OTHER_SIGNS = "+-*"

Change = tuple[str, tuple[int, int], str]
"""An error: its kind, the characters to replace, and the new text."""


@dataclass(frozen=True)
class Injected:
    """Two prefixes of a completion, which end at the same event and differ in one step."""

    token: int
    """Index of the event's token in the completion."""
    place: int
    """Number of the step among the completion's events."""
    kind: str
    right: str
    wrong: str
    start: int
    """First character of the changed step."""
    end: int
    """One past the step's last character in `right`."""


def inject(
    text: str,
    prompt: str,
    offsets: Sequence[tuple[int, int]],
    events: Sequence[Event],
    task: Task,
    rng: random.Random,
    kinds: Sequence[str] = KINDS,
) -> Injected | None:
    """An error in one of the steps of a text that end at a fork, or None where no step can be made wrong.

    A step is the last sentence before its fork, as nothing written after an error may contradict it. An error is in its
    last equation; where it has none, in a number that stands there for the first time; where there is none either, in
    its last word, which becomes another one of the problem that ends a sentence of the text in the same place. But not
    in a sentence before which an onset is the last event, whose behaviour may end in it.

    Args:
        offsets: characters of the text's tokens.
        events: the text's events, in order.
        kinds: errors of equations, in the order in which they are tried.
    """
    ends = [0, *(offsets[event.token][1] for event in events)]
    steps = [(i, span) for i, span in enumerate(pairwise(ends)) if not events[i].is_onset]
    # The two endings of a text (its last step, and the answer after it) are forks as well; all may be chosen.
    for i, (start, end) in rng.sample(steps, len(steps)):
        right = text[:end]
        start, worked = max(start, _last_sentence(right)), equations(right)
        if worked and worked[-1].end > start:
            changes = _in_equation(right, worked, task, rng, kinds)
        elif i and events[i - 1].is_onset:
            continue
        else:
            changes = chain(_in_prose(right, prompt, start, rng), _of_last_word(text, right, prompt, rng))
        for kind, (a, b), new in changes:
            step = (a, b) if kind in (NUMBER, WORD) else (worked[-1].start, worked[-1].end)
            return Injected(events[i].token, i, kind, right, f"{right[:a]}{new}{right[b:]}", *step)
    return None


def _last_sentence(text: str) -> int:
    """Where the last sentence with a letter or digit begins."""
    begins = (a for a, b in reversed(sentences(text)) if any(map(str.isalnum, text[a:b])))
    return next(begins, len(text))


def _in_equation(
    right: str, worked: Sequence[Equation], task: Task, rng: random.Random, kinds: Sequence[str]
) -> Iterator[Change]:
    """Errors in the last equation, unless it is wrong already or a recomputation, which would be a behaviour."""
    if not _is_right(task, worked[-1]) or recomputed(worked[-2:]):
        return
    for kind in kinds:
        for (a, b), new in _of_equation[kind](right, worked[-1], rng):
            if _is_wrong(task, f"{right[:a]}{new}{right[b:]}", worked[-1]):
                yield kind, (a, b), new


def _in_prose(right: str, prompt: str, start: int, rng: random.Random) -> Iterator[Change]:
    """An error in a number from character `start` on that neither the prompt nor the text before it holds."""
    held, fresh = set(_values(prompt)), []
    for number in _NUMBER.finditer(right):
        (value,) = _values(number.group())
        if number.start() >= start and value not in held:
            fresh.append(number)
        held.add(value)
    if fresh:
        chosen = rng.choice(fresh)
        yield NUMBER, chosen.span(), _other_digit(chosen.group(), rng)


def _of_last_word(text: str, right: str, prompt: str, rng: random.Random) -> Iterator[Change]:
    """The last word of a sentence, if it is of the problem, changed for another one that is too and that ends a
    sentence of the text after the same words."""
    named = set(_WORD.findall(prompt))
    place, last = next(_endings(right, reversed(sentences(right))), ((), None))
    if len(place) < _SLOT or last is None or last.group() not in named:
        return
    ends = {word.group() for before, word in _endings(text, sentences(text)) if before == place}
    if others := sorted((ends & named) - {last.group()}):
        yield WORD, last.span(), rng.choice(others)


def _endings(text: str, parts: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[str, ...], re.Match[str]]]:
    """(the _SLOT words before the last one, that word) of every sentence with words."""
    for start, end in parts:
        if words := [*_WORD.finditer(text, start, end)]:
            yield tuple(word.group() for word in words[-1 - _SLOT : -1]), words[-1]


def _values(text: str) -> list[str]:
    """The numbers of a text, without separators of thousands."""
    return [_SEPARATOR.sub("", number) for number in _NUMBER.findall(text)]


def _is_right(task: Task, equation: Equation) -> bool:
    truth = task.true_result(*equation.binary) if equation.binary else None
    return truth is not None and equal(truth, equation.result)


def _is_wrong(task: Task, changed: str, original: Equation) -> bool:
    """Whether the changed text's last equation is where the right one was, is wrong, and repeats no other."""
    worked = equations(changed)
    if not worked or worked[-1].start != original.start or recomputed(worked[-2:]):
        return False
    truth = task.true_result(*worked[-1].binary) if worked[-1].binary else None
    return truth is not None and not equal(truth, worked[-1].result)


def _of_result(text: str, equation: Equation, rng: random.Random) -> Iterator[tuple[tuple[int, int], str]]:
    for figures in _FIGURES.finditer(text, equation.shown, equation.end):
        yield figures.span(), _other_digit(figures.group(), rng)


def _of_sign(text: str, equation: Equation, rng: random.Random) -> Iterator[tuple[tuple[int, int], str]]:
    first = _FIGURES.search(text, equation.start, equation.equals)
    sign = _SIGNS.search(text, first.end(), equation.equals) if first else None
    if sign is not None:
        for other in rng.sample(_OTHER_SIGNS, len(_OTHER_SIGNS)):
            if other != sign.group():
                yield sign.span(), other


def _of_operand(text: str, equation: Equation, rng: random.Random) -> Iterator[tuple[tuple[int, int], str]]:
    found = list(_FIGURES.finditer(text, equation.start, equation.equals))
    for figures in found[-1:]:
        for _ in range(4):  # another operand may have the same result: 0 times anything
            yield figures.span(), _other_digit(figures.group(), rng)


_of_equation: dict[str, Callable[[str, Equation, random.Random], Iterator[tuple[tuple[int, int], str]]]] = {
    DIGIT: _of_result,
    SIGN: _of_sign,
    OPERAND: _of_operand,
}


def _other_digit(number: str, rng: random.Random) -> str:
    """The number with one of its digits changed; the first of several does not become 0."""
    at = rng.choice([i for i, sign in enumerate(number) if sign.isdigit()])
    others = [d for d in "0123456789" if d != number[at] and not (d == "0" and at == 0 and len(number) > 1)]
    return f"{number[:at]}{rng.choice(others)}{number[at + 1 :]}"


def is_repaired(text: str, injected: Injected, task: Task, lexicon: Lexicon) -> bool:
    """Whether a text that begins with `injected.wrong` goes on to mend the step: the step is worked again with the
    right result, either as it was written wrong or as it was before."""
    if injected.kind in (NUMBER, WORD):
        read = _values if injected.kind == NUMBER else _WORD.findall
        right = read(injected.right[injected.start : injected.end])
        return any(
            step.first[0] <= injected.start < step.first[1] and set(right) <= set(read(step.again_result))
            for step in redone(text, lexicon)
        )
    both = [*equations(injected.right), *equations(injected.wrong)]
    forms = {equation.operands for equation in both if equation.start == injected.start}
    after = next((equation for equation in equations(text) if equation.start > injected.start), None)
    return after is not None and after.operands in forms and _is_right(task, after)
