"""Does a model notice an error? What it does after a step with an injected error, and after the untouched step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.contrasts import InjectedPair
from interp.features.margin import Margin
from interp.generation.part import Job
from interp.generation.sampling import CachedModel, Writing, write
from interp.models.prefixes import Prefixes
from interp.statistics import Bootstrap
from interp.tasks.base import Problem, Task
from interp.tasks.grading import grade
from interp.traces.events import onsets
from interp.traces.injected import is_repaired
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Lexicon, Span
from interp.traces.tokens import decode

NOTICES = {
    "checks_wrong": "begins to check after a wrong step",
    "checks_right": "begins to check after a right step",
    "repaired": "mends the wrong step",
    "correct_wrong": "right answer after a wrong step",
    "correct_right": "right answer after a right step",
    "variation": "total variation of the next token, wrong against right",
}
"""Columns of `injected.parquet` that are summed up, and what they say; all between 0 and 1."""


SCHEMA = {
    "problem": pl.String,
    "model": pl.String,
    "token": pl.Int64,
    "place": pl.Int64,
    "kind": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "variation": pl.Float64,
    "p_onset_wrong": pl.Float64,
    "p_onset_right": pl.Float64,
    "checks_wrong": pl.Boolean,
    "checks_right": pl.Boolean,
    "repaired": pl.Boolean,
    "correct_wrong": pl.Boolean,
    "correct_right": pl.Boolean,
    "text_wrong": pl.String,
    "text_right": pl.String,
}


SUMMARY = {
    "model": pl.String,
    "measure": pl.String,
    "says": pl.String,
    "n": pl.Int64,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True)
class Judge:
    """What tells whether a text checks, mends and is right."""

    task: Task
    lexicon: Lexicon
    problems: dict[str, Problem]
    label: Callable[[str], list[Span]]
    """Behaviours of a text."""


def notice(
    name: str,
    model: Any,
    tokenizer: Any,
    pairs: Sequence[InjectedPair],
    judge: Judge,
    how: Writing,
    margin: Margin | None,
    rows: int,
) -> pl.DataFrame:
    """One row per pair: what the model writes after either prefix, on the same noise, and its next token's
    distribution. `rows` prefixes are read together."""
    if not pairs:
        return pl.DataFrame(schema=SCHEMA)
    wrong, right = (_next(model, [getattr(p, side) for p in pairs], how.pad, rows) for side in ("wrong", "right"))
    variation = total_variation(wrong, right).tolist()
    p_onset = [margin.p(logits).tolist() if margin else [None] * len(pairs) for logits in (wrong, right)]
    texts = [_go_on(model, tokenizer, pairs, side, how, rows) for side in ("wrong", "right")]
    table = []
    for i, pair in enumerate(pairs):
        after_wrong, after_right = (side[i] for side in texts)
        repaired = is_repaired(after_wrong[0], pair.injected, judge.task, judge.lexicon)
        table.append(
            {
                "problem": pair.problem,
                "model": name,
                **{key: value for key, value in asdict(pair.injected).items() if key not in ("right", "wrong")},
                "variation": variation[i],
                "p_onset_wrong": p_onset[0][i],
                "p_onset_right": p_onset[1][i],
                "checks_wrong": repaired or _checks(after_wrong, pair, tokenizer, judge),
                "checks_right": _checks(after_right, pair, tokenizer, judge),
                "repaired": repaired,
                "correct_wrong": _is_correct(after_wrong[0], pair, judge),
                "correct_right": _is_correct(after_right[0], pair, judge),
                "text_wrong": after_wrong[0],
                "text_right": after_right[0],
            }
        )
    return pl.DataFrame(table, schema=SCHEMA)


def summarise(table: pl.DataFrame, bootstrap: Callable[[int], Bootstrap]) -> pl.DataFrame:
    """One row for each model and column of NOTICES: the mean with its 95 % interval over problems."""
    rows = []
    for (name,), group in table.group_by("model", maintain_order=True):
        for column, says in NOTICES.items():
            values = group[column].cast(pl.Float64).to_numpy()
            interval = bootstrap(len(values)).mean(values)
            rows.append({"model": name, "measure": column, "says": says, "n": len(values), **interval.as_dict()})
    return pl.DataFrame(rows, schema=SUMMARY)


def total_variation(first: Float[Tensor, "rows vocab"], second: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """Half the summed difference of two distributions, 0 to 1, from their logits."""
    return (first.softmax(1) - second.softmax(1)).abs().sum(1) / 2


@torch.no_grad()
def _next(model: Any, prefixes: Sequence[list[int]], pad: int, rows: int) -> Float[Tensor, "rows vocab"]:
    return Prefixes(model, prefixes, pad, rows).logits()


def _go_on(
    model: Any, tokenizer: Any, pairs: Sequence[InjectedPair], side: str, how: Writing, rows: int
) -> list[tuple[str, list[int]]]:
    """(text, token ids) of the completion that begins with each prefix's."""
    decoder, found = CachedModel(model), []
    for start in range(0, len(pairs), rows):
        some = pairs[start : start + rows]
        job = Job([getattr(pair, side) for pair in some], range(start, start + len(some)))
        for pair, rollout in zip(some, write(decoder, tokenizer, [job], how)[0], strict=True):
            ids = [*getattr(pair, side)[pair.prompt_length :], *rollout.completion_ids]
            found.append((decode(tokenizer, ids), ids))
    return found


def _checks(written: tuple[str, list[int]], pair: InjectedPair, tokenizer: Any, judge: Judge) -> bool:
    """Whether a behaviour begins at the pair's event."""
    text, ids = written
    begun = onsets(text, token_offsets(tokenizer, ids), judge.label(text))
    return any(event.token == pair.injected.token for event in begun)


def _is_correct(text: str, pair: InjectedPair, judge: Judge) -> bool:
    return grade(judge.task, judge.problems[pair.problem], text).correct
