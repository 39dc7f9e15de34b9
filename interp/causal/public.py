"""Edits from a script or a notebook: `interp.run`, `interp.effects` and `interp.verdict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from interp.causal.arms import Arm
from interp.causal.checks import check_arm, failures
from interp.causal.controls import control_phrases
from interp.causal.edits import Echo, Edit, Redraw, ResidualEdit
from interp.causal.edits.along import Along
from interp.causal.edits.ban import Ban
from interp.causal.edits.substitute import Substitute
from interp.causal.effects import effects as effect_rows
from interp.causal.effects import table
from interp.causal.places import EVERYWHERE
from interp.causal.run import cells_of
from interp.causal.run import run as run_arms
from interp.causal.runs import UNTOUCHED, Runs
from interp.causal.setting import Setting
from interp.causal.verdict import Verdict, conclude
from interp.directions import Direction, random_like
from interp.models.loaded import LoadedTrio
from interp.models.revision import revision
from interp.names import EDITED
from interp.progress import bar
from interp.tasks.base import Task
from interp.traces.lexicon import load_lexicon


def run(
    trio: LoadedTrio,
    task: Task,
    arms: Sequence[Arm | Edit],
    *,
    on: str = EDITED,
    problems: int = 256,
    controls: int = 39,
    control_problems: int | None = None,
    out: Path | str = "runs",
    lexicon: str = "default",
    max_new_tokens: int = 80,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
) -> Runs:
    """Run edits on one model of a trio and return the table of everything that was run.

    An edit becomes an arm of its own name and places. It has controls where its kind has any: random directions of the
    same norm for an edit along a direction, the repeated result drawn anew for `Echo`, other replaceable words for a
    ban or a substitution. What matches a latent is decided by its activations, so an edit of latents has controls only
    if it comes as an `Arm` that holds them (`features.matched.matched_latents`).

    Args:
        out: folder of the runs; what is there is not run again.
        temperature: 0 is greedy; at any other the edits are decoded greedily as well.

    Raises:
        InterpError: an edit fits no model of the trio, or two arms have one name.
    """
    setting = _setting(trio, task, problems, lexicon, max_new_tokens, temperature, seed, batch_size)
    plain = run_arms(setting, [], Path(out), untouched=(on,))
    texts = plain.texts(UNTOUCHED, 0, on)
    ready = [a if isinstance(a, Arm) else _arm(a, on, setting, texts, controls, control_problems) for a in arms]
    total = sum(len(cell.numbers) for cell in cells_of(ready, setting, (on,)))
    with bar("running edits", total) as progress:
        return run_arms(setting, ready, Path(out), untouched=(on,), on_done=progress.advance)


def _setting(
    trio: LoadedTrio,
    task: Task,
    problems: int,
    lexicon: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> Setting:
    chosen, opened = task.problems(problems, seed, "test"), trio.trio
    prompts = tuple(p.prompt for p in chosen)
    return Setting(
        models={name: trio[name] for name in opened.names},
        tokenizers=opened.tokenizers,
        end_ids=opened.end_ids,
        prompts=dict.fromkeys(opened.names, prompts),
        problems=chosen,
        task=task,
        lexicon=load_lexicon(lexicon),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        names={name: revision(path) for name, path in opened.paths.items()},
        rows=batch_size,
    )


def _arm(edit: Edit, on: str, setting: Setting, texts: Sequence[str], draws: int, control_problems: int | None) -> Arm:
    """An edit with the controls of its kind."""
    arm = Arm(_name(edit), edit, models=(on,), control_problems=control_problems)
    if isinstance(edit, ResidualEdit):
        arm = replace(arm, site=edit.site.name, layer=edit.site.layer, dose=getattr(edit, "dose", None))
    if isinstance(edit, Along):
        like = random_like(Direction(edit.vector, edit.site.layer, edit.site.name), draws, setting.seed)
        random = (replace(edit, vector=d.vector, label="a random direction") for d in like)
        return arm.with_controls(*random, name="random directions, same norm")
    if isinstance(edit, Echo):
        redraws = (Redraw(edit.lexicon, draw) for draw in range(1, draws + 1))
        return arm.with_controls(*redraws, name="the repeated result drawn anew")
    if isinstance(edit, Ban | Substitute):
        prompts = [p.prompt for p in setting.problems]
        drawn = control_phrases(texts, prompts, setting.lexicon, edit.phrases, draws, setting.seed)
        others = [_like(edit, phrases) for phrases in drawn.draws]
        return arm.with_controls(*(o for o in others if o is not None), name=f"other words; {drawn.note}")
    return arm


def _name(edit: Edit) -> str:
    """The edit's name, with the places it is restricted to."""
    restricted = (
        f" at {one.where.name}" if isinstance(one, ResidualEdit) and one.where != EVERYWHERE else ""
        for one in edit.parts()
    )
    return " | ".join(one.name + places for one, places in zip(edit.parts(), restricted, strict=True))


def _like(edit: Ban | Substitute, phrases: tuple[str, ...]) -> Edit | None:
    """The same edit of other phrases, None where no word would be left to put in their place."""
    if isinstance(edit, Ban):
        return Ban(phrases, "control words")
    by = tuple(word for word in edit.by if word not in phrases)
    return Substitute(phrases, by, "control words") if by else None


def effects(runs: Runs, *, resamples: int = 10000, seed: int = 0) -> pl.DataFrame:
    """Every outcome of every arm, model and decoding against the untouched run: the change with its 95 % interval over
    problems, and the mean and 95 % band of the arm's control draws on their own problems.

    `p` compares with the draws; `p_holm` is adjusted over all arms of a family. Neither is given where there are too
    few draws for it to fall below .05, nor where `coherent` is False: the arm never acted, fewer texts ended, or their
    length or repetition changed too much (or, for an arm with a claim, that failed); `note` says which.
    """
    rows = []
    for model in dict.fromkeys(m for about in runs.arms.values() for m in about["models"]):
        mine = {name: {**about, "models": [model]} for name, about in runs.arms.items() if model in about["models"]}
        part = Runs(runs.table.filter(pl.col("model") == model), mine)
        failed = {name: failures(check_arm(part, name, model=model)) for name in mine}
        rows += effect_rows(part, resamples=resamples, seed=seed, failed=failed)
    return table(rows)


def verdict(runs: Runs, *, bound: float = 0.05, resamples: int = 10000, seed: int = 0) -> Verdict:
    """Read the protocol's table from runs of base and distilled whose arms make the verdict's claims."""
    return conclude(runs, bound=bound, resamples=resamples, seed=seed)
