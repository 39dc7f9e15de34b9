"""How the traces of one world are put together, so that one set of rules writes variants of all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\s*\n+\s*")


@dataclass(frozen=True)
class Voice:
    """The joints and the words of one kind of trace."""

    joint: str
    """Stands between two steps."""
    ending: str
    """The final answer, in the place of `{answer}`, with what sets it off."""
    slot: str
    """A word set before a step, in the place of `{word}`."""
    pivots: Mapping[str, tuple[str, ...]]
    """Style markers of each of the four kinds of Lippmann & Yang (2025)."""
    neutral: tuple[str, ...]
    """Words without meaning here that are no markers."""

    def end(self, answer: str) -> str:
        return self.ending.format(answer=answer)

    def at(self, word: str, step: str) -> str:
        """A word set before a step."""
        return f"{self.slot.format(word=word)} {step}"

    @property
    def markers(self) -> tuple[str, ...]:
        """All pivots."""
        return tuple(word for words in self.pivots.values() for word in words)


PROSE = Voice(
    joint="\n",
    ending="\n#### {answer}",
    slot="{word}",
    pivots={
        "realization": ("Wait.", "Hmm.", "Hold on.", "Oh."),
        "verification": ("Let me check.", "Let me verify.", "Let me double-check."),
        "exploration": ("What if it goes on like this?", "Alternatively:", "Let me try this."),
        "integration": ("Now I see.", "That makes sense.", "Putting it together:"),
    },
    neutral=("Next.", "Now.", "Here.", "Then.", "Further.", "Below."),
)


@dataclass(frozen=True)
class Worked:
    """A worked problem, taken apart."""

    steps: tuple[str, ...]
    answer: str
    """The result of the steps."""
    wrong: str
    """Another one."""


def take_apart(trace: str, answer: str, wrong: str, voice: Voice) -> Worked:
    """Steps of a trace: its parts between joints, or else its lines and sentences; the final answer is cut off."""
    body = (trace.rpartition("####")[0] if "####" in trace else trace).strip()
    steps = body.split(voice.joint) if voice.joint in body else _SENTENCE_END.split(body)
    return Worked(tuple(step.strip() for step in steps if step.strip()), answer, wrong)
