"""Training the arms of a trial over seeds and measuring them on the same problems; existing arms are reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from interp.activations.harvest import Harvest, moved
from interp.activations.texts import Text
from interp.causal.decoding import generate_edited
from interp.causal.edits import Edit, NoEdit
from interp.models.descendants import FineTuned
from interp.models.hooks import Site
from interp.models.sites import check_layer
from interp.models.trio import load_model, pick_device, read_end_ids, read_tokenizer
from interp.progress import bar
from interp.tasks.base import Task
from interp.traces.measure import Outcomes, measure
from interp.traces.rollouts import Rollout
from interp.trials.world import World

UNEDITED = NoEdit()
DISTANCE_TEXTS = 128
"""Texts on which the distance of an arm's activations from the base's is measured."""


@dataclass(frozen=True)
class Entry:
    """One row of a trial: a model, its grader, and edits while it generates."""

    arm: FineTuned | str
    """A recipe to train, or the folder of an existing model."""
    task: Task | None = None
    """Grader; None is the world's."""
    edit: Edit = UNEDITED
    """Edit during generation, of the text alone."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one entry under one seed."""

    outcomes: Outcomes
    distance: float
    """Mean over tokens of |x - x_base| / |x_base| at the studied layer: how far training moved the activations."""


def run_trial(world: World, entries: Mapping[int, Mapping[str, Entry]]) -> dict[int, dict[str, Measured]]:
    """Train the missing arms, all seeds in parallel, then sample each arm's answers to the held-out problems.

    Entries and measurements are keyed by seed and name.
    """
    named = {f"{name}, seed {seed}": e.arm for seed, rows in entries.items() for name, e in rows.items()}
    world.make({name: arm for name, arm in named.items() if not isinstance(arm, str)}, [*entries])
    return {seed: _answered(world, seed, rows) for seed, rows in entries.items()}


def _answered(world: World, seed: int, entries: Mapping[str, Entry]) -> dict[str, Measured]:
    torch.set_num_threads(world.config.threads)
    device = pick_device(world.config.device)
    base = load_model("base", world.base(seed), device)
    measured, written = {}, {}  # two entries may read the same texts by different graders
    with bar(f"answers, seed {seed}", len(entries) * len(world.tested)) as progress:
        for name, entry in entries.items():
            folder = entry.arm if isinstance(entry.arm, str) else str(world.place(entry.arm))
            if (folder, entry.edit) not in written:
                model = load_model(name, folder, device)
                rollouts = answers(world, model, folder, entry.edit)
                written[folder, entry.edit] = rollouts, distance(base, model, rollouts, world)
            rollouts, far = written[folder, entry.edit]
            outcomes = measure(entry.task or world.task, world.lexicon, world.tested, rollouts)
            measured[name] = Measured(outcomes, far)
            progress.advance(len(world.tested))
    return measured


def answers(world: World, model, folder: str, edit: Edit = UNEDITED) -> list[Rollout]:
    """One sampled completion per held-out problem."""
    traces, tokenizer = world.config.traces, read_tokenizer("base", folder)
    return generate_edited(
        model,
        tokenizer,
        [p.prompt for p in world.tested],
        edit,
        max_new_tokens=traces.max_new_tokens,
        temperature=traces.temperature,
        seed=world.config.seed,
        batch_size=traces.batch_size,
        end_ids=read_end_ids("base", folder, tokenizer),
    )


def distance(base, model, rollouts: Sequence[Rollout], world: World) -> float:
    """Mean over tokens of |x - x_base| / |x_base| at the layer that is studied, on the arm's own answers."""
    layer = check_layer(world.config.activations.layer, base.config.num_hidden_layers)
    texts = [Text(r.prompt_ids + r.completion_ids, "", str(i), len(r.prompt_ids)) for i, r in enumerate(rollouts)]
    source = Harvest(
        {"base": base, "arm": model},
        texts[:DISTANCE_TEXTS],
        Site(layer),
        0,
        DISTANCE_TEXTS,
        world.config.activations.skip_first,
    )
    return float(torch.cat([moved(rows)[:, 1] for rows in source]).mean())
