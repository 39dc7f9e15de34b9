"""The setting of a trial: task, held-out problems, worked problems for training, and one base per seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from interp.config import StudyConfig
from interp.errors import InterpError
from interp.folders import digest
from interp.models.descendants import FineTuned, job
from interp.models.jobs import Job, run_jobs
from interp.models.trio import pick_device, read_tokenizer
from interp.organisms.documents import plain, result_of
from interp.organisms.recipes import organism_base
from interp.organisms.world import Step
from interp.organisms.worlds import WORLDS
from interp.stages.problems import task_of
from interp.stages.traces import templated
from interp.tasks.base import Problem, Task
from interp.tasks.splits import TEST_SHARE, fingerprint
from interp.traces.lexicon import Lexicon, load_lexicon
from interp.traces.voice import PROSE, Voice, Worked, take_apart


@dataclass(frozen=True)
class World:
    """One study config as the setting of trials. Trained models are kept in `store` under a digest of everything that
    determines them, so that trials share models and an interrupted trial resumes."""

    config: StudyConfig
    store: Path

    @property
    def is_organism(self) -> bool:
        """Whether models and problems are the project's own."""
        return not self.config.checkpoints.given

    @property
    def voice(self) -> Voice:
        return WORLDS[self.config.task.kind].voice if self.is_organism else PROSE

    @cached_property
    def task(self) -> Task:
        return task_of(self.config)

    @cached_property
    def lexicon(self) -> Lexicon:
        return load_lexicon(self.config.traces.lexicon)

    def seeded(self, seed: int) -> StudyConfig:
        """The config with another seed."""
        return self.config.model_copy(update={"seed": seed})

    def base(self, seed: int) -> str:
        """Folder of a seed's base, which exists once `make` was called; the user's own base for every seed."""
        if not self.is_organism:
            return self.config.checkpoints.given["base"]
        parts = self.seeded(seed).model_dump(mode="json", include={"task", "organism", "device"})
        del parts["organism"]["kind"], parts["organism"]["distillation"], parts["organism"]["zero_rl"]
        return str(self.store / f"base-{digest(parts)[:12]}-{seed}")

    def place(self, arm: FineTuned) -> Path:
        """Folder of an arm in the store."""
        decides = {"kind": type(arm).__name__, **{name: _plain(value) for name, value in vars(arm).items()}}
        base = decides.get("base")
        if base is not None and Path(base).parent == self.store:
            decides["base"] = Path(base).name  # wherever the store is
        return self.store / f"{arm.seed}-{digest(decides)[:16]}"

    def make(self, arms: Mapping[str, FineTuned], seeds: Sequence[int] = ()) -> None:
        """Train the missing bases of `seeds` and the missing arms, each on one thread, in as many processes as
        there are threads. An arm that starts from a base of the store waits for it."""
        jobs = self._base_jobs(seeds) if self.is_organism else {}
        for name, arm in arms.items():
            needs = (Path(arm.base),) if Path(arm.base).parent == self.store else ()
            place = self.place(arm)
            jobs.setdefault(place, job(name, arm, place, needs=needs, device=self.config.device))
        missing = [job for place, job in jobs.items() if not place.exists()]
        run_jobs(missing, 1 if pick_device(self.config.device).type == "cuda" else self.config.threads)

    def _base_jobs(self, seeds: Sequence[int]) -> dict[Path, Job]:
        places = {seed: Path(self.base(seed)) for seed in seeds}
        return {
            place: job(f"base, seed {seed}", organism_base(self.seeded(seed)), place, device=self.config.device)
            for seed, place in places.items()
            if not place.exists()
        }

    @cached_property
    def tested(self) -> list[Problem]:
        """Held-out problems, the same for every seed, so that arms are compared problem by problem."""
        n = self.config.traces.problems
        of_file = self.config.traces.file is not None
        return self._asked(self._given(held_out=True)[:n] if of_file else self.task.problems(n, 0, "test"))

    def learned(self, n: int, seed: int, wrong: float = 0.0) -> list[Worked]:
        """`n` worked problems, none of them tested. In the organisms' traces a share `wrong` of the steps is wrong, and
        the wrong result is carried on to the answer.

        Raises:
            InterpError: the user's file has fewer with a `trace`.
        """
        rng, problems = random.Random(f"worked-{seed}"), self.learned_problems(n, seed)
        answers = sorted({p.answer for p in problems})
        return [self._worked(p, answers, rng, wrong) for p in problems]

    def learned_problems(self, n: int, seed: int) -> list[Problem]:
        """The problems of `learned`; the user's own bring their traces."""
        file = self.config.traces.file
        found = self.task.problems(n, seed + 1, "train") if file is None else self._given(held_out=False)
        if not self.is_organism:
            found = [p for p in found if p.trace]
        if len(found) < n:
            raise InterpError(
                f"{file or f'task.kind = {self.config.task.kind}'}: {len(found)} problems with a trace are there to "
                f"learn from and {n} are wanted; give more, or lower the number of traces"
            )
        return self._asked(found if file is None else random.Random(f"learned-{seed}").sample(found, n))

    def _asked(self, problems: list[Problem]) -> list[Problem]:
        """Problems with their prompts in the chat template, where the config asks for it."""
        if not self.config.traces.chat_template:
            return problems
        tokenizer = read_tokenizer("base", self.config.checkpoints.given["base"])
        return [replace(p, prompt=templated(tokenizer, p.prompt, chat=True)) for p in problems]

    def _given(self, held_out: bool) -> list[Problem]:
        """The problems of the user's file on one side of a checksum of their text; another one than tasks make their
        splits by, since a file may hold one side of such a split.

        Raises:
            InterpError: the side is empty.
        """
        everything = self.task.problems(10**9, 0, "test")
        found = [p for p in everything if (int(fingerprint(p.prompt), 16) % TEST_SHARE == 0) == held_out]
        if not found:
            raise InterpError(
                f"{self.config.traces.file}: of {len(everything)} problems, one in {TEST_SHARE} is held out by a "
                f"checksum of its text; "
                f"{'none' if held_out else 'all of them'} were; give more problems"
            )
        return found

    def _worked(self, problem: Problem, answers: Sequence[str], rng: random.Random, wrong: float) -> Worked:
        trace = problem.trace or self._written(problem.prompt, rng, wrong)
        answer = problem.answer if problem.trace else self.task.answer_of(trace) or problem.answer
        return take_apart(trace, answer, wrong_answer(answer, answers, rng), self.voice)

    def _written(self, prompt: str, rng: random.Random, wrong: float) -> str:
        def work(step: Step, coin: random.Random) -> str:
            return result_of(step, wrong, coin)

        return plain(prompt, rng, WORLDS[self.config.task.kind], work=work)


def _plain(value: Any) -> Any:
    """JSON-able form of a part of an arm, whose digest is the same in every run."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def wrong_answer(answer: str, answers: Sequence[str], rng: random.Random) -> str:
    """A different answer: for a number, another number of as many digits; otherwise another problem's.

    Raises:
        InterpError: all problems have this answer, which is no number.
    """
    number = answer.removeprefix("-")
    if not (number.isascii() and number.isdigit()):
        others = [other for other in answers if other != answer]
        if not others:
            raise InterpError(f"every problem has the answer {answer!r}, so that none is wrong; give other problems")
        return rng.choice(others)
    digits = len(number)
    choices = [n for n in range(0 if digits == 1 else 10 ** (digits - 1), 10**digits) if str(n) != number]
    return str(rng.choice(choices)) if digits < 6 else str(int(answer) + 1)
