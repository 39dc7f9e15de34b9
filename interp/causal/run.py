"""Running arms: every (arm, draw) on its problems, several in a batch, each written as soon as it is whole.

A run whose edit acts on the text alone is the untouched run, on the same noise, up to the first place where the edit
acts. Problems in whose untouched text it never acts are therefore not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from interp.causal.arms import Arm
from interp.causal.decoding import EditedDecoder
from interp.causal.edits import Edit, NoEdit, ResidualEdit, Scene, fired
from interp.causal.edits.base import Running
from interp.causal.edits.patches import Patch
from interp.causal.runs import SCHEMA, UNTOUCHED, Runs, read_part, write_index, write_part
from interp.causal.setting import SAMPLED, Setting
from interp.errors import InterpError
from interp.folders import digest
from interp.generation.part import Job
from interp.generation.sampling import write
from interp.models.hooks import check_site, site_width
from interp.names import OUTCOMES
from interp.traces.measure import measure
from interp.traces.rollouts import Rollout


@dataclass(frozen=True, eq=False)
class Cell:
    """One run: an arm's draw on one model under one decoding."""

    arm: str
    draw: int
    model: str
    decoding: str
    edit: Edit
    numbers: tuple[int, ...]
    """Of its problems."""

    def content(self, setting: Setting) -> str:
        """What its texts depend on; equal for two arms with the same edit."""
        used = setting.key(self.model, self.edit.needs, self.numbers)
        return digest([self.model, self.decoding, self.edit.describe(), used])

    def key(self, content: str) -> str:
        """Name of its file."""
        return digest([self.arm, self.draw, content])[:32]


@dataclass
class _Work:
    """A cell under way."""

    cell: Cell
    rollouts: dict[int, Rollout] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    same: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Rows of the untouched run, where the edit cannot act."""


def cells_of(arms: Sequence[Arm], setting: Setting, untouched: Sequence[str] = ()) -> list[Cell]:
    """Every run of a table: the untouched runs of all models first, then each arm's edit and draws. The edit alone is
    decoded greedily as well. `untouched` are models whose untouched runs are wanted whatever the arms.

    Raises:
        InterpError: two arms share a name, or an edit does not fit a model.
    """
    names = [arm.name for arm in arms]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InterpError(f"arms: {repeated[0]!r} occurs twice; give each a name of its own")
    used = sorted({*untouched, *(model for arm in arms for model in arm.models)})
    everything = tuple(range(len(setting.problems)))
    cells = [
        Cell(UNTOUCHED, 0, model, decoding, NoEdit(), everything) for model in used for decoding in setting.decodings
    ]
    for arm in arms:
        numbers = everything[arm.first : len(everything) if arm.problems is None else arm.first + arm.problems]
        for model in arm.models:
            edit = arm.edit if model == arm.models[0] else arm.edit.on(model)
            check_edit(edit, setting, model)
            cells += [Cell(arm.name, 0, model, d, edit, numbers) for d in setting.decodings]
        n = len(numbers) if arm.control_problems is None else min(arm.control_problems, len(numbers))
        for draw, edit in enumerate(arm.controls, 1):
            check_edit(edit, setting, arm.models[0])
            cells.append(Cell(arm.name, draw, arm.models[0], SAMPLED, edit, numbers[:n]))
    return cells


def check_edit(edit: Edit, setting: Setting, model: str) -> None:
    """Refuse an edit that does not fit a model.

    Raises:
        InterpError: a model, layer, site or width that is not there.
    """
    for name in (model, *edit.needs):
        if name not in setting.models:
            raise InterpError(f"{edit.name}: no model {name!r} in this run; there are {', '.join(setting.models)}")
    for one in edit.parts():
        if isinstance(one, ResidualEdit):
            for name in (model, *one.needs):
                check_site(setting.models[name], one.site)
            one.check(site_width(setting.models[model], one.site))
            if isinstance(one, Patch):
                one.check_heads(setting.models[model].config.get_text_config().num_attention_heads)


def run(
    setting: Setting,
    arms: Sequence[Arm],
    out: Path,
    *,
    untouched: Sequence[str] = (),
    earlier: Sequence[Path] = (),
    on_done: Callable[[int], None] = lambda n: None,
) -> Runs:
    """Run what is missing of a table in the folder `out`, and return the whole.

    Args:
        untouched: models whose untouched runs are wanted whatever the arms.
        earlier: folders with runs that may be taken instead of run again.
        on_done: callback with the number of completions that are done.
    """
    out.mkdir(parents=True, exist_ok=True)
    cells = cells_of(arms, setting, untouched)
    contents = [cell.content(setting) for cell in cells]
    keys = [cell.key(content) for cell, content in zip(cells, contents, strict=True)]
    done: dict[int, pl.DataFrame] = {}
    for i, (cell, key) in enumerate(zip(cells, keys, strict=True)):
        for folder in (out, *earlier):
            part = read_part(folder / f"{key}.parquet", len(cell.numbers))
            if part is not None:
                if folder != out:
                    write_part(out / f"{key}.parquet", part)
                done[i] = part
                on_done(len(part))
                break
    plain = {(c.model, c.decoding): i for i, c in enumerate(cells) if c.arm == UNTOUCHED}
    first = {content: i for i, content in reversed(list(enumerate(contents)))}
    for stage in ([*plain.values()], [i for i in range(len(cells)) if i not in plain.values()]):
        missing = [i for i in stage if i not in done]
        new = [i for i in missing if first[contents[i]] == i]
        for i, table in _run(setting, {i: cells[i] for i in new}, done, plain, on_done):
            write_part(out / f"{keys[i]}.parquet", table)
            done[i] = table
        for i in sorted(set(missing) - set(new)):  # the same edit under another name is not run again
            done[i] = _renamed(done[first[contents[i]]], cells[i])
            write_part(out / f"{keys[i]}.parquet", done[i])
            on_done(len(done[i]))
    index = {arm.name: _about(arm) for arm in arms}
    write_index(out, index, list(dict.fromkeys(keys)))
    return Runs(pl.concat([done[i] for i in range(len(cells))]), index)


def _renamed(table: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    labels = {"arm": cell.arm, "draw": cell.draw}
    return table.with_columns(pl.lit(value, SCHEMA[name]).alias(name) for name, value in labels.items())


def _about(arm: Arm) -> dict:
    fields = ("claim", "family", "control_name", "site", "layer", "dose", "note", "found", "forced", "models", "first")
    return {name: getattr(arm, name) for name in fields} | {"edit": arm.edit.name}


def _run(
    setting: Setting,
    cells: Mapping[int, Cell],
    done: Mapping[int, pl.DataFrame],
    plain: Mapping[tuple[str, str], int],
    on_done: Callable[[int], None],
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of a cell, its table), each as soon as it is whole."""
    groups: dict[tuple, list[int]] = {}
    for i, cell in cells.items():
        groups.setdefault((cell.model, cell.decoding, tuple(sorted(cell.edit.needs))), []).append(i)
    for (model, decoding, _), members in groups.items():
        untouched = done.get(plain[model, decoding])
        works, queue = {}, []
        for i in members:
            work, left = _begun(setting, cells[i], untouched)
            works[i] = work
            queue += [(i, left[at : at + setting.rows]) for at in range(0, len(left), setting.rows)]
            on_done(len(work.same))
            if not left:
                yield i, _table(setting, work)
        open_chunks = {i: sum(1 for j, _ in queue if j == i) for i in members}
        for batch in _packed(queue, setting.rows):
            for i, finished in _written(setting, works, batch, model, decoding):
                on_done(finished)
                open_chunks[i] -= 1
                if open_chunks[i] == 0:
                    yield i, _table(setting, works[i])


def _begun(setting: Setting, cell: Cell, untouched: pl.DataFrame | None) -> tuple[_Work, list[int]]:
    """The cell with the rows in which its edit cannot act, and the numbers of those that are to be written."""
    work, left = _Work(cell), list(cell.numbers)
    if untouched is None or any(isinstance(one, ResidualEdit) for one in cell.edit.parts()):
        return work, left
    before = {row["number"]: row for row in untouched.iter_rows(named=True)}
    how = setting.writing(cell.model, cell.decoding)
    scene = Scene(setting.vocabularies[cell.model], 1, setting.seed, how.temperature)
    left = []
    for number in cell.numbers:
        row = before[number]
        if cell.edit.may_act(scene, row["completion_ids"], row["text"]):
            left.append(number)
        else:
            work.same[number] = row
    return work, left


def _packed(queue: Sequence[tuple[int, list[int]]], rows: int) -> Iterator[list[tuple[int, list[int]]]]:
    """Batches of at most `rows` rows."""
    batch: list[tuple[int, list[int]]] = []
    for i, numbers in queue:
        if batch and sum(len(n) for _, n in batch) + len(numbers) > rows:
            yield batch
            batch = []
        batch.append((i, numbers))
    if batch:
        yield batch


def _written(
    setting: Setting, works: Mapping[int, _Work], batch: Sequence[tuple[int, list[int]]], model: str, decoding: str
) -> Iterator[tuple[int, int]]:
    """Write a batch; (number of the cell, completions) of each of its chunks."""
    how = setting.writing(model, decoding)
    vocabulary, encoded = setting.vocabularies[model], setting.encoded
    running: list[Running] = []
    for i, numbers in batch:
        scene = Scene(vocabulary, len(numbers), setting.seed, how.temperature)
        running.append(works[i].cell.edit.start(scene))
    jobs = [
        Job([encoded[model][n] for n in numbers], numbers, edits)
        for (_, numbers), edits in zip(batch, running, strict=True)
    ]
    others = {
        name: [[encoded[name][n] for n in numbers] for _, numbers in batch] for name in setting.own_prompts(model)
    }
    decoder = EditedDecoder(setting.models, model, running, vocabulary, others)
    rollouts = write(decoder, setting.tokenizers[model], jobs, how)
    for (i, numbers), edits, texts in zip(batch, running, rollouts, strict=True):
        works[i].rollouts.update(zip(numbers, texts, strict=True))
        works[i].counts.update(zip(numbers, fired(edits), strict=True))
        yield i, len(numbers)


def _table(setting: Setting, work: _Work) -> pl.DataFrame:
    """The rows of a finished run."""
    cell = work.cell
    numbers = [n for n in cell.numbers if n not in work.same]
    problems, rollouts = [setting.problems[n] for n in numbers], [work.rollouts[n] for n in numbers]
    outcomes = measure(setting.task, setting.lexicon, problems, rollouts)
    labels = {"arm": cell.arm, "draw": cell.draw, "model": cell.model, "decoding": cell.decoding}
    rows = {number: row | labels | {"fired": 0} for number, row in work.same.items()}
    for i, (number, problem, rollout) in enumerate(zip(numbers, problems, rollouts, strict=True)):
        parts = {
            f"{outcome}_{part}": float(values[i])
            for outcome in OUTCOMES
            for part, values in zip(("top", "bottom"), outcomes.parts[outcome], strict=True)
        }
        rows[number] = (
            labels
            | parts
            | {
                "problem": problem.id,
                "number": number,
                "difficulty": problem.difficulty,
                "fired": work.counts[number],
                "n_tokens": len(rollout.completion_ids),
                "done": rollout.finished,
                "text": rollout.text,
                "completion_ids": rollout.completion_ids,
                "prompt_ids": rollout.prompt_ids,
            }
        )
    return pl.DataFrame([rows[n] for n in cell.numbers], schema=SCHEMA)
