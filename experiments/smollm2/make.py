"""Make SmolLM2's trio on short sums: adapters distilled, reinforced and control, and the problems to measure them on.

    .venv/bin/python experiments/smollm2/make.py

The base is fetched (`interp.models.smollm2`), the three adapters are trained one after the other, and an interrupted
run goes on where it was. What it writes, the curves of the training too, lies beside this script, where
`experiments/configs/smollm2.yaml` looks for it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from interp.cli import prepare, run_script
from interp.config import DistillationConfig, StudyConfig, ZeroRLConfig, load_config
from interp.errors import InterpError
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
    """Adapters to make; those that are there are kept."""
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
    lines = []
    for left, value in worked.steps():
        result = _noisy(value, rng)
        lines.append(f"{left} = {result}")
        if result != value:
            lines.append(f"{rng.choice(MARKED if rng.random() < 2 / 3 else NEUTRAL)} {left} = {value}")
    return "\n".join([*lines, f"#### {value}"])


def plain(worked: Sum, rng: random.Random) -> str:
    """Noisy steps, the value carried on as it was written."""
    value, lines = worked.terms[0], []
    for op, term in zip(worked.operators, worked.terms[1:], strict=True):
        result = _noisy(apply(value, op, term), rng)
        lines.append(f"{value} {op} {term} = {result}")
        value = result
    return "\n".join([*lines, f"#### {value}"])


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


def arms(options: Options, config: StudyConfig) -> dict[str, FineTuned]:
    """The three adapters."""
    seed, steps = options.seed, options.zero_rl.steps
    n = steps * options.zero_rl.completions // options.zero_rl.group_size

    def tuned(write: Callable[[Sum, random.Random], str]) -> Distilled:
        rng, chosen = random.Random(f"{write.__name__}-{seed}"), taught(options.distillation.traces, seed + 1)
        asked = prompts(config, chosen)
        documents = [Document(p.prompt, write(s, rng)) for p, s in zip(asked, chosen, strict=True)]
        return Distilled(NAME, documents, options.distillation, seed)

    problems = prompts(config, sums(min(n, 900), False, seed + 2, REINFORCED_TO))
    return {
        "distilled": tuned(functional),
        "zero_rl": Reinforced(NAME, problems, Strict(Path()), options.zero_rl, seed),
        "control": tuned(plain),
    }


def main(options: Options) -> None:
    """Write the problems, train what is not there."""
    config = load_config(STUDY)
    prepare(config)
    rows = [
        {"question": s.text, "answer": str([*s.steps()][-1][1])} for s in sums(options.problems, True, options.seed)
    ]
    (HERE / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = arms(options, config)
    missing = [name for name in options.arms if not (HERE / name).exists()]
    run_jobs([job(name, made[name], HERE / name, options.threads, device=config.device) for name in missing], 1)
    with house_style():
        drawing = training_curves(training_table({name: str(HERE / name) for name in made}))
        if drawing is not None:
            save(drawing, HERE)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
