"""Running arms: every (arm, draw) on its problems, several in a batch, each written as soon as it is whole.

A run whose edit acts on the text alone is the untouched run, on the same noise, up to the first place where the edit
acts. Problems in whose untouched text it never acts are therefore not written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from interp.causal.arms import Arm
from interp.causal.decoding import EditedDecoder
from interp.causal.edits import Edit, NoEdit, ResidualEdit, Scene, fired
from interp.causal.edits.patches import Patch
from interp.causal.runs import KEYS, SCHEMA, UNTOUCHED, Runs, read_part, write_index, write_part
from interp.causal.setting import SAMPLED, Setting
from interp.errors import InterpError
from interp.folders import digest
from interp.generation.part import Job
from interp.generation.sampling import write
from interp.models.hooks import check_site, site_width
from interp.names import OUTCOMES
from interp.traces.measure import measure
from interp.traces.rollouts import Rollout
from interp.workers import Spread, in_turn


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


Chunk = tuple[int, list[int]]
"""Number of a cell, and of those of its problems that are written together."""


@dataclass(frozen=True)
class Batch:
    """Runs that are written together."""

    model: str
    decoding: str
    chunks: Sequence[Chunk]


@dataclass(frozen=True, eq=False)
class Writer:
    """Writes batches of runs, in this process or in another, where it reads the models for itself."""

    setting: Setting
    cells: Sequence[Cell]

    def __call__(self, batch: Batch) -> list[tuple[int, pl.DataFrame]]:
        """(number of the cell, rows of the table) of each chunk."""
        setting, model, cells = self.setting, batch.model, [self.cells[i] for i, _ in batch.chunks]
        how, vocabulary, encoded = setting.writing(model, batch.decoding), setting.vocabularies[model], setting.encoded
        running = [
            cell.edit.start(Scene(vocabulary, len(numbers), setting.seed, how.temperature))
            for cell, (_, numbers) in zip(cells, batch.chunks, strict=True)
        ]
        jobs = [
            Job([encoded[model][n] for n in numbers], numbers, edits)
            for (_, numbers), edits in zip(batch.chunks, running, strict=True)
        ]
        others = {
            name: [[encoded[name][n] for n in numbers] for _, numbers in batch.chunks]
            for name in setting.own_prompts(model)
        }
        rollouts = write(
            EditedDecoder(setting.models, model, running, vocabulary, others), setting.tokenizers[model], jobs, how
        )
        return [
            (i, _rows(setting, cell, numbers, texts, fired(edits)))
            for (i, numbers), cell, texts, edits in zip(batch.chunks, cells, rollouts, running, strict=True)
        ]


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
    spread: Spread = in_turn,
    on_done: Callable[[int], None] = lambda n: None,
) -> Runs:
    """Run what is missing of a table in the folder `out`, and return the whole.

    Args:
        untouched: models whose untouched runs are wanted whatever the arms.
        earlier: folders with runs that may be taken instead of run again.
        spread: how batches are shared out (`Setting.crew`).
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
    writer = Writer(setting, cells)
    plain = {(c.model, c.decoding): i for i, c in enumerate(cells) if c.arm == UNTOUCHED}
    first = {content: i for i, content in reversed(list(enumerate(contents)))}
    for stage in ([*plain.values()], [i for i in range(len(cells)) if i not in plain.values()]):
        missing = [i for i in stage if i not in done]
        new = [i for i in missing if first[contents[i]] == i]
        for i, table in _run(writer, new, done, plain, spread, on_done):
            write_part(out / f"{keys[i]}.parquet", table)
            done[i] = table
        for i in sorted(set(missing) - set(new)):  # the same edit under another name is not run again
            done[i] = _labelled(done[first[contents[i]]], **_labels(cells[i]))
            write_part(out / f"{keys[i]}.parquet", done[i])
            on_done(len(done[i]))
    index = {arm.name: _about(arm) for arm in arms}
    write_index(out, index, list(dict.fromkeys(keys)))
    return Runs(pl.concat([done[i] for i in range(len(cells))]), index)


def _about(arm: Arm) -> dict:
    fields = ("claim", "family", "control_name", "site", "layer", "dose", "note", "found", "forced", "models", "first")
    return {name: getattr(arm, name) for name in fields} | {"edit": arm.edit.name}


def _run(
    writer: Writer,
    numbers: Sequence[int],
    done: Mapping[int, pl.DataFrame],
    plain: Mapping[tuple[str, str], int],
    spread: Spread,
    on_done: Callable[[int], None],
) -> Iterator[tuple[int, pl.DataFrame]]:
    """(number of a cell, its table) of the cells with these numbers, each as soon as it is whole."""
    setting, cells = writer.setting, writer.cells
    parts: dict[int, list[pl.DataFrame]] = {}
    missing: dict[int, int] = {}
    groups: dict[tuple, list[int]] = {}
    for i in numbers:
        groups.setdefault((cells[i].model, cells[i].decoding, tuple(sorted(cells[i].edit.needs))), []).append(i)

    def batches() -> Iterator[Batch]:
        for (model, decoding, _), members in groups.items():
            queue: list[Chunk] = []
            for i in members:
                same, left = _copied(setting, cells[i], done.get(plain[model, decoding]))
                parts[i], missing[i] = [same], len(left)
                on_done(len(same))
                queue += [(i, left[at : at + setting.rows]) for at in range(0, len(left), setting.rows)]
            yield from (Batch(model, decoding, chunks) for chunks in _packed(queue, setting.rows))

    for written in spread(writer, batches()):
        for i, rows in written:
            on_done(len(rows))
            parts[i].append(rows)
            missing[i] -= len(rows)
            if not missing[i]:
                yield i, _whole(parts.pop(i))
    yield from ((i, _whole(same)) for i, same in parts.items())  # where the edit acts nowhere


def _copied(setting: Setting, cell: Cell, untouched: pl.DataFrame | None) -> tuple[pl.DataFrame, list[int]]:
    """The untouched rows in which the cell's edit cannot act, as rows of the cell, and the numbers of the others."""
    if untouched is None or any(isinstance(one, ResidualEdit) for one in cell.edit.parts()):
        return pl.DataFrame(schema=SCHEMA), list(cell.numbers)
    mine = set(cell.numbers)
    how = setting.writing(cell.model, cell.decoding)
    scene = Scene(setting.vocabularies[cell.model], 1, setting.seed, how.temperature)
    acts = {
        number
        for number, ids, text in untouched.select("number", "completion_ids", "text").iter_rows()
        if number in mine and cell.edit.may_act(scene, ids, text)
    }
    same = untouched.filter(pl.col("number").is_in(sorted(mine - acts)))
    return _labelled(same, **_labels(cell), fired=0), [n for n in cell.numbers if n in acts]


def _packed(queue: Sequence[Chunk], rows: int) -> Iterator[list[Chunk]]:
    """Batches of at most `rows` rows."""
    batch: list[Chunk] = []
    for i, numbers in queue:
        if batch and sum(len(n) for _, n in batch) + len(numbers) > rows:
            yield batch
            batch = []
        batch.append((i, numbers))
    if batch:
        yield batch


def _rows(
    setting: Setting, cell: Cell, numbers: Sequence[int], rollouts: Sequence[Rollout], counts: Sequence[int]
) -> pl.DataFrame:
    """The rows of what was written, with their outcomes."""
    problems = [setting.problems[n] for n in numbers]
    outcomes = measure(setting.task, setting.lexicon, problems, rollouts)
    table = pl.DataFrame(
        {
            "problem": [p.id for p in problems],
            "number": numbers,
            "difficulty": [p.difficulty for p in problems],
            "fired": counts,
            "n_tokens": [len(r.completion_ids) for r in rollouts],
            "done": [r.finished for r in rollouts],
            "text": [r.text for r in rollouts],
            "completion_ids": [r.completion_ids for r in rollouts],
            "prompt_ids": [r.prompt_ids for r in rollouts],
        }
        | {
            f"{outcome}_{part}": values
            for outcome in OUTCOMES
            for part, values in zip(("top", "bottom"), outcomes.parts[outcome], strict=True)
        },
        schema={name: kind for name, kind in SCHEMA.items() if name not in KEYS},
    )
    return _labelled(table, **_labels(cell))


def _labels(cell: Cell) -> dict[str, Any]:
    return {"arm": cell.arm, "draw": cell.draw, "model": cell.model, "decoding": cell.decoding}


def _labelled(table: pl.DataFrame, **values: Any) -> pl.DataFrame:
    """The table with these values in every row."""
    named = (pl.lit(value, SCHEMA[name]).alias(name) for name, value in values.items())
    return table.with_columns(named).select(*SCHEMA)


def _whole(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """A run from its parts, in the order of its problems."""
    return pl.concat(parts).sort("number")
