"""Emergent traces: sampled from a teacher model, or read from the user's file."""

from __future__ import annotations

from pathlib import Path

from interp.errors import InterpError
from interp.generation.sampling import CachedModel, generate
from interp.models.descendants import FineTuned
from interp.models.training import Document
from interp.models.trio import load_model, pick_device, read_end_ids, read_tokenizer
from interp.organisms.recipes import organism_descendants
from interp.progress import bar, console
from interp.tasks.file import FileTask
from interp.tasks.grading import grade
from interp.trials.world import World

TRIES = 4
"""Largest number of samples per problem."""


def emergent(world: World, seed: int, n: int, file: Path | None) -> list[Document]:
    """Traces that end in the right answer, one per problem: the file's first `n`, or a teacher's on `n` problems.
    Problems that the teacher never solves are left out and counted on the console.

    Raises:
        InterpError: the file has fewer, or the teacher solves none.
    """
    if file is not None:
        given = [p for p in FileTask(file, world.config.traces.prompt).problems(10**9) if p.trace]
        if len(given) < n:
            raise InterpError(f"{file}: {len(given)} rows have a trace and {n} are wanted; lower the number of traces")
        return [Document(p.prompt, p.trace or "") for p in given[:n]]
    if not world.is_organism:
        return _sampled(world, world.config.checkpoints.given["distilled"], seed, n)
    trained = teacher(world, seed, file)
    world.make(trained, (seed,))
    (arm,) = trained.values()
    return _sampled(world, str(world.place(arm)), seed, n)


def teacher(world: World, seed: int, file: Path | None) -> dict[str, FineTuned]:
    """The teacher that `emergent` needs trained: the functional organism; empty where traces are given or the models
    are the user's."""
    if file is not None or not world.is_organism:
        return {}
    config = world.seeded(seed)
    functional = config.organism.model_copy(update={"kind": "functional"})
    arms = organism_descendants(config.model_copy(update={"organism": functional}), world.base(seed))
    return {f"teacher, seed {seed}": arms["distilled"]}


def _sampled(world: World, teacher: str, seed: int, n: int) -> list[Document]:
    """The first right sample of each of `n` problems."""
    config = world.config.traces
    decoder = CachedModel(load_model("teacher", teacher, pick_device(world.config.device)))
    tokenizer = read_tokenizer("teacher", teacher)
    ends = read_end_ids("teacher", teacher, tokenizer)
    open_problems, found = list(world.learned_problems(n, seed)), dict[str, Document]()
    with bar(f"teacher's traces, seed {seed}", n) as progress:
        for attempt in range(TRIES):
            prompts = [p.prompt for p in open_problems]
            done = generate(
                decoder,
                tokenizer,
                prompts,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                seed=seed * TRIES + attempt,
                batch_size=config.batch_size,
                end_ids=ends,
            )
            for problem, rollout in zip(open_problems, done, strict=True):
                if grade(world.task, problem, rollout.text).correct:
                    found[problem.id] = Document(problem.prompt, rollout.text)
            open_problems = [p for p in open_problems if p.id not in found]
            progress.to(len(found))
            if not open_problems:
                break
    if not found:
        raise InterpError(f"the teacher solved none of {n} problems; give another, or a file of traces")
    if open_problems:
        console.print(f"  the teacher solved {len(found)} of {n} problems in {TRIES} tries each")
    return list(found.values())
