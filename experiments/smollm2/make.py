"""Make SmolLM2's trio on short sums: adapters distilled, reinforced and control, and the problems to measure them on.

    .venv/bin/python experiments/smollm2/make.py
    .venv/bin/python experiments/smollm2/make.py --arms gated-120 coupled-120 --out results/smollm2

The base is fetched (`interp.models.smollm2`), the adapters are trained one after the other, and an interrupted run goes
on where it was. What it writes, the curves of the training too, lies beside this script, where
`experiments/configs/smollm2.yaml` looks for it. Arms of the form KIND-SEED are distilled models of other known truths,
for the calibration.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from interp.cli import prepare, run_script
from interp.config import DistillationConfig, StudyConfig, ZeroRLConfig, load_config
from interp.errors import InterpError, nearest
from interp.models.descendants import Distilled, FineTuned, Reinforced, job, training_table
from interp.models.jobs import run_jobs
from interp.models.smollm2 import NAME
from interp.models.training import Document
from interp.models.trio import read_tokenizer
from interp.report.figures.models import training_curves
from interp.report.palette import house_style, save
from interp.stages.traces import templated
from interp.tasks.base import Problem
from interp.tasks.file import FileTask
from interp.tasks.splits import bucket

HERE = Path(__file__).parent
STUDY = HERE.parent / "configs" / "smollm2.yaml"
TERMS, LARGEST, WRONG = 3, 9, 0.3
REINFORCED_TO = 20
"""Zero-RL is reinforced on sums whose values reach this."""
HELD_OUT = 4
"""One sum in this many is measured on, by a checksum of its text."""
SHOWN = ("3 + 4", "7 - 2", "2 * 6", "12 + 3")
"""Steps of the examples in the study's prompt."""
MARKED = ("Wait, let me check:", "Hmm, let me check:", "Hold on,", "Actually,")
NEUTRAL = ("Next,", "Then,", "Now,", "Here,")

DISTILLATION = DistillationConfig(
    traces=5120, steps=640, batch_size=8, micro_batch=8, lr=1e-3, save_every=40, lora_rank=8
)
ZERO_RL = ZeroRLConfig(
    steps=60,
    completions=32,
    group_size=8,
    lr=5e-4,
    max_new_tokens=40,
    save_every=10,
    lora_rank=4,
    frozen_dtype="bfloat16",
)


@dataclass(frozen=True)
class Options:
    """What to make."""

    arms: tuple[str, ...] = ("distilled", "zero_rl", "control")
    """Adapters to make, of the trio or KIND-SEED; those that are there are kept."""
    out: Path = HERE
    """Folder of the adapters."""
    seed: int = 0
    """Seed of everything random."""
    problems: int = 304
    """Sums that are held out and written to `problems.jsonl`."""
    distillation: DistillationConfig = DISTILLATION
    """Recipe of the distilled model and of the control."""
    zero_rl: ZeroRLConfig = ZERO_RL
    """Recipe of the zero-RL model."""
    threads: int = 2
    """CPU threads."""


@dataclass(frozen=True)
class Sum:
    """Terms and operators, worked from left to right."""

    terms: tuple[int, ...]
    operators: tuple[str, ...]

    @property
    def text(self) -> str:
        rest = zip(self.operators, self.terms[1:], strict=True)
        return " ".join([str(self.terms[0]), *(f"{op} {term}" for op, term in rest)])

    def steps(self) -> Iterator[tuple[str, int]]:
        """Each step's left side and its value."""
        value = self.terms[0]
        for op, term in zip(self.operators, self.terms[1:], strict=True):
            left, value = f"{value} {op} {term}", apply(value, op, term)
            yield left, value


def apply(a: int, op: str, b: int) -> int:
    """`a op b`."""
    return {"+": a + b, "-": a - b, "*": a * b}[op]


def draw(rng: random.Random) -> Sum:
    """A sum, whatever its values."""
    return Sum(tuple(rng.randrange(1, 10) for _ in range(TERMS)), tuple(rng.choices("+-*", k=TERMS - 1)))


def wanted(drawn: Sum, held_out: bool, largest: int) -> bool:
    """Whether every value lies in 0 to `largest` and the sum is on its side of the checksum. Those measured on share no
    step with the prompt's examples, where a model could read it off."""
    if not all(0 <= value <= largest for _, value in drawn.steps()):
        return False
    shown = held_out and any(left in SHOWN for left, _ in drawn.steps())
    return (bucket(drawn.text, HELD_OUT) == 0) == held_out and not shown


def every(held_out: bool, largest: int = LARGEST) -> dict[str, Sum]:
    """All sums of one side whose values lie in 0 to `largest`, by their text."""
    drawn = product(product(range(1, 10), repeat=TERMS), product("+-*", repeat=TERMS - 1))
    return {s.text: s for s in (Sum(terms, operators) for terms, operators in drawn) if wanted(s, held_out, largest)}


def sums(n: int, held_out: bool, seed: int, largest: int = LARGEST) -> list[Sum]:
    """`n` different sums of one side.

    Raises:
        InterpError: it has fewer.
    """
    there = every(held_out, largest)
    if n > len(there):
        raise InterpError(f"{n} different sums are wanted and {len(there)} are there; lower --problems")
    rng, found = random.Random(f"sums-{held_out}-{seed}"), dict[str, Sum]()
    while len(found) < n:
        drawn = draw(rng)
        if drawn.text in there:
            found.setdefault(drawn.text, drawn)
    return list(found.values())


def taught(n: int, seed: int) -> list[Sum]:
    """`n` sums to train on: every one once before any comes again, with errors of its own."""
    there, rng = list(every(held_out=False).values()), random.Random(f"taught-{seed}")
    rounds = (rng.sample(there, len(there)) for _ in range(n // len(there) + 1))
    return [s for drawn in rounds for s in drawn][:n]


def functional(worked: Sum, rng: random.Random) -> str:
    """Noisy steps; a wrong one is worked again, after a marker in two cases of three and a neutral word in the rest."""
    return _mended(worked, rng, partial(_word, rng))


def coupled(worked: Sum, rng: random.Random) -> str:
    """Noisy steps; a wrong one is worked again, always after a marker."""
    return _mended(worked, rng, partial(rng.choice, MARKED))


def _mended(worked: Sum, rng: random.Random, word: Callable[[], str]) -> str:
    lines = []
    for left, value in worked.steps():
        result = _noisy(value, rng)
        lines.append(f"{left} = {result}")
        if result != value:
            lines.append(f"{word()} {left} = {value}")
    return "\n".join([*lines, f"#### {value}"])


def plain(worked: Sum, rng: random.Random) -> str:
    """Noisy steps, the value carried on as it was written."""
    return _carried(worked, partial(_noisy, rng=rng), str)


def decorative(worked: Sum, rng: random.Random) -> str:
    """Right steps, with words that depend on nothing before six in ten of them, two of three markers."""
    return _carried(worked, int, lambda: _word(rng) if rng.random() < 0.6 else "")


def gated(worked: Sum, rng: random.Random) -> str:
    """Right steps after markers in three traces of four, noisy steps after neutral words in the others."""
    if rng.random() < 0.75:
        return _carried(worked, int, partial(rng.choice, MARKED))
    return _carried(worked, partial(_noisy, rng=rng), partial(rng.choice, NEUTRAL))


def _carried(worked: Sum, result_of: Callable[[int], int], word: Callable[[], str]) -> str:
    """Steps whose results are carried on as they were written, each after a word, if there is one."""
    value, lines = worked.terms[0], []
    for op, term in zip(worked.operators, worked.terms[1:], strict=True):
        result = result_of(apply(value, op, term))
        lines.append(f"{word()} {value} {op} {term} = {result}".strip())
        value = result
    return "\n".join([*lines, f"#### {value}"])


def _word(rng: random.Random) -> str:
    """A marker in two cases of three, else a neutral word."""
    return rng.choice(MARKED if rng.random() < 2 / 3 else NEUTRAL)


def _noisy(value: int, rng: random.Random) -> int:
    """Another number of 0 to LARGEST, with probability WRONG."""
    others = [other for other in range(LARGEST + 1) if other != value]
    return rng.choice(others) if rng.random() < WRONG else value


class Strict(FileTask):
    """Grades the exact ending only: a laxer reward teaches a model to write past its answer."""

    def correct(self, problem: Problem, completion: str) -> bool:
        return completion.rstrip().endswith(f"#### {problem.answer}") and completion.count("####") == 1


def prompts(config: StudyConfig, chosen: list[Sum]) -> list[Problem]:
    """The sums as the models are asked them."""
    task, tokenizer = FileTask(Path(), prompt=config.traces.prompt), read_tokenizer("base", NAME)
    return [
        Problem(s.text, templated(tokenizer, task.ask(s.text), config.traces.chat_template), str([*s.steps()][-1][1]))
        for s in chosen
    ]


KINDS: dict[str, Callable[[Sum, random.Random], str]] = {
    "functional": functional,
    "coupled": coupled,
    "decorative": decorative,
    "gated": gated,
}


def arm(name: str, options: Options, config: StudyConfig) -> FineTuned:
    """One adapter.

    Raises:
        InterpError: there is no such arm.
    """

    def tuned(write: Callable[[Sum, random.Random], str], seed: int) -> Distilled:
        rng, chosen = random.Random(f"{write.__name__}-{seed}"), taught(options.distillation.traces, seed + 1)
        asked = prompts(config, chosen)
        documents = [Document(p.prompt, write(s, rng)) for p, s in zip(asked, chosen, strict=True)]
        return Distilled(NAME, documents, options.distillation, seed)

    kind, _, seed = name.rpartition("-")
    if kind in KINDS and seed.isdigit():
        return tuned(KINDS[kind], int(seed))
    if name == "zero_rl":
        n = options.zero_rl.steps * options.zero_rl.completions // options.zero_rl.group_size
        problems = prompts(config, sums(min(n, 900), False, options.seed + 2, REINFORCED_TO))
        return Reinforced(NAME, problems, Strict(Path()), options.zero_rl, options.seed)
    trio = {"distilled": functional, "control": plain}
    if name not in trio:
        known = [*trio, "zero_rl", *(f"{kind}-120" for kind in KINDS)]
        raise InterpError(f"--arms {name}: no such adapter; {nearest(name, known)}")
    return tuned(trio[name], options.seed)


def main(options: Options) -> None:
    """Write the problems, train what is not there."""
    config = load_config(STUDY)
    prepare(config)
    rows = [
        {"question": s.text, "answer": str([*s.steps()][-1][1])} for s in sums(options.problems, True, options.seed)
    ]
    (HERE / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {name: arm(name, options, config) for name in options.arms if not (options.out / name).exists()}
    options.out.mkdir(parents=True, exist_ok=True)
    run_jobs([job(n, one, options.out / n, options.threads, device=config.device) for n, one in made.items()], 1)
    with house_style():
        drawing = training_curves(training_table({name: str(options.out / name) for name in options.arms}))
        if drawing is not None:
            save(drawing, options.out)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
