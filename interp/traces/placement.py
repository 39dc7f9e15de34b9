"""A rationale rearranged, and set before or after the answer (Wadhwa, Amir & Wallace 2024)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interp.tasks.base import Problem, Task
from interp.traces.equations import equations
from interp.traces.voice import Voice, Worked

KEPT = 0.3
"""Share of a rationale's words that are key words."""
BEFORE, AFTER = "before", "after"


def words_of(worked: Worked, voice: Voice) -> list[str]:
    """The rationale as words, joints among them."""
    return voice.joint.join(worked.steps).split()


def shuffled(words: Sequence[str], rng: random.Random) -> list[str]:
    """All words, in a random order."""
    return rng.sample(words, len(words))


def key_words(words: Sequence[str], scores: Sequence[float], share: float = KEPT) -> list[str]:
    """The words of highest score, in their order: at least one."""
    best = sorted(range(len(words)), key=lambda i: -scores[i])[: n_kept(words, share)]
    return [words[i] for i in sorted(best)]


def random_words(words: Sequence[str], rng: random.Random, share: float = KEPT) -> list[str]:
    """As many words as key words, at random, in their order."""
    return [words[i] for i in sorted(rng.sample(range(len(words)), n_kept(words, share)))]


def n_kept(words: Sequence[str], share: float = KEPT) -> int:
    """How many key words a rationale has."""
    return max(1, round(share * len(words)))


def place(words: Sequence[str], worked: Worked, voice: Voice, where: str) -> str:
    """The rationale before the answer, or the answer first, a joint, and the rationale."""
    rationale, answer = " ".join(words), voice.end(worked.answer)
    return rationale + answer if where == BEFORE else answer.strip() + voice.joint + rationale


@dataclass(frozen=True)
class Regraded:
    """A task whose grader reads another part of the completion."""

    task: Task
    part: Callable[[str], str]
    """Part of a completion that the task's own grader reads."""

    @property
    def name(self) -> str:
        return self.task.name

    def problems(self, n: int, seed: int, split: str) -> list[Problem]:
        return self.task.problems(n, seed, split)

    def answer_of(self, completion: str) -> str | None:
        return self.task.answer_of(self.part(completion))

    def correct(self, problem: Problem, completion: str) -> bool:
        return self.task.correct(problem, self.part(completion))

    def true_result(self, a: str, op: str, b: str) -> str | None:
        return self.task.true_result(a, op, b)


def answer_first(task: Task, voice: Voice) -> Regraded:
    """Grades the text before the first joint."""
    return Regraded(task, lambda text: text.split(voice.joint.strip() or voice.joint)[0].strip())


def last_step(task: Task, voice: Voice) -> Regraded:
    """Grades the result of the last equation, the answer of the body, whatever the ending says."""

    def part(text: str) -> str:
        worked = equations(text)
        return voice.end(worked[-1].result).strip() if worked else ""

    return Regraded(task, part)
