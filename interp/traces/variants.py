"""Teacher traces by rule, all from one set of worked problems, each isolating one thing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from interp.traces.voice import Voice, Worked

Write = Callable[[Worked, Voice, random.Random], str]
_RESULT = re.compile(r"(=\s*)(-?\d+)")


@dataclass(frozen=True)
class Variant:
    """A way to write a trace."""

    write: Write
    isolates: str
    """What the comparison with its neighbour in the table shows."""


def step_by_step(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """The steps and nothing else."""
    return voice.joint.join(worked.steps) + voice.end(worked.answer)


def no_trace(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """The answer alone, as the steps would have given it."""
    return voice.end(worked.answer).strip()


def hard_coded(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """A word before every step: framing, exploration, verification and synthesis follow one another, and nothing is
    explored or verified."""
    n = len(worked.steps)
    steps = [voice.at(_word(i, n, voice, rng), step) for i, step in enumerate(worked.steps)]
    return voice.joint.join(steps) + voice.end(worked.answer)


def filled(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """As `hard_coded`, but every word is neutral: as long, and without style."""
    steps = [voice.at(rng.choice(voice.neutral), step) for step in worked.steps]
    return voice.joint.join(steps) + voice.end(worked.answer)


def wrong_ending(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """As `hard_coded`, but the ending is another than the steps lead to: the body still reasons as it did."""
    return hard_coded(replace(worked, answer=worked.wrong), voice, rng)


def wrong_body(worked: Worked, voice: Voice, rng: random.Random) -> str:
    """As `wrong_ending`, and every result in the body is wrong as well."""
    steps = tuple(_RESULT.sub(lambda m: m.group(1) + _other(m.group(2), rng), step) for step in worked.steps)
    return wrong_ending(replace(worked, steps=steps), voice, rng)


VARIANTS = {
    "step_by_step": Variant(step_by_step, "the steps alone: the baseline of every other kind"),
    "no_trace": Variant(no_trace, "the answers alone, without any step"),
    "filled": Variant(filled, "against step_by_step: the extra length; against hard_coded: the style at equal length"),
    "hard_coded": Variant(hard_coded, "style by rule on the same steps: the effect of the words alone"),
    "wrong_ending": Variant(wrong_ending, "against hard_coded: whether the ending has to agree with the steps"),
    "wrong_body": Variant(wrong_body, "against wrong_ending: whether the body explains what wrong traces teach"),
}
"""By rule; what is sampled from a model or read from a file is `emergent`."""


def _word(i: int, n: int, voice: Voice, rng: random.Random) -> str:
    """The word before step i of n: neutral in the framing, a pivot of its stage after it."""
    if i == 0:
        return rng.choice(voice.neutral)
    if i == n - 1:
        return rng.choice(voice.pivots["integration"])
    if i <= (n - 1) // 2:
        return rng.choice(voice.pivots["exploration"])
    return rng.choice(voice.pivots[rng.choice(("realization", "verification"))])


def _other(number: str, rng: random.Random) -> str:
    """Another number with as many digits."""
    digits = len(number.lstrip("-"))
    low, high = (0, 9) if digits == 1 else (10 ** (digits - 1), 10**digits - 1)
    drawn = rng.randrange(low, high)
    return str(drawn + (drawn >= abs(int(number))))
