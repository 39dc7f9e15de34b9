"""Stage `traces`: every model answers every problem; answers are graded, spans marked, outcomes measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl
import torch
from transformers import PreTrainedTokenizerBase

from interp.errors import InterpError
from interp.generation.sampling import CachedModel, generate
from interp.models.trio import Trio, load_model, open_trio, pick_device
from interp.names import EDITED, OUTCOMES
from interp.progress import bar, console
from interp.stages.problems import labels_by_construction, task_of, test_problems
from interp.statistics import Bootstrap
from interp.study import Study
from interp.tasks.base import Problem, Task
from interp.tasks.grading import Grade
from interp.traces.events import common_kinds, events, onsets, usual_kinds
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Lexicon, Span, load_lexicon
from interp.traces.measure import Outcomes, grade_all, measure
from interp.traces.rollouts import Rollout
from interp.traces.segment import by_construction, by_sentences
from interp.traces.tokens import encode

UNFINISHED = 0.05
"""Share of cut completions from which a model is named."""
SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "label": pl.String}))
EVENTS = pl.List(pl.Struct({"token": pl.Int64, "kind": pl.String, "behaviour": pl.String}))


def checkpoint_paths(study: Study) -> dict[str, str]:
    """Model to local folder or hub id, as the stage `checkpoints` wrote them."""
    folder = study.folder("checkpoints")
    described = json.loads((folder / "models.json").read_text())
    inside = {name: folder / row["path"] for name, row in described.items()}
    return {name: str(path) if path.exists() else described[name]["path"] for name, path in inside.items()}


def run(study: Study, out: Path) -> int:
    """Write `traces.parquet` (one row per problem and model), `greedy.parquet` and `summary.parquet`; returns the
    number of rows."""
    config = study.config
    torch.set_num_threads(config.threads)
    task, problems, lexicon = task_of(config), test_problems(config), load_lexicon(config.traces.lexicon)
    trio, device = open_trio(checkpoint_paths(study)), pick_device(config.device)
    prompts = {name: prompts_of(trio, name, problems, config.traces.chat_template) for name in trio.names}
    _refuse_too_long(trio, prompts, config.traces.max_new_tokens)
    bootstrap = Bootstrap(len(problems), seed=config.seed)
    tables, greedy_tables, summary = [], [], []
    with bar("sampling answers", 2 * len(trio.paths) * len(problems)) as progress:
        for name, path in trio.paths.items():
            decoder = CachedModel(load_model(name, path, device))

            def sample(temperature: float, name: str = name, decoder: CachedModel = decoder) -> list[Rollout]:
                return generate(
                    decoder,
                    trio.tokenizers[name],
                    prompts[name],
                    max_new_tokens=config.traces.max_new_tokens,
                    temperature=temperature,
                    seed=config.seed,
                    batch_size=config.traces.batch_size,
                    end_ids=trio.end_ids[name],
                    on_batch=progress.advance,
                )

            sampled, greedy = sample(config.traces.temperature), sample(0.0)
            _warn_unfinished(name, sampled, config.traces.max_new_tokens)
            grades, best_grades = (grade_all(task, problems, rollouts) for rollouts in (sampled, greedy))
            _warn_ungraded(name, grades + best_grades)
            outcomes = measure(task, lexicon, problems, sampled, grades)
            best = measure(task, lexicon, problems, greedy, best_grades)
            tables.append(_table(name, problems, sampled, grades, task, lexicon, labels_by_construction(config)))
            greedy_tables.append(_greedy(name, problems, best_grades))
            summary += _summary(name, outcomes, best, bootstrap)
    _refuse_ungraded(tables)
    pl.concat(with_events(tables, trio)).write_parquet(out / "traces.parquet")
    pl.concat(greedy_tables).write_parquet(out / "greedy.parquet")
    pl.DataFrame(summary, infer_schema_length=None).write_parquet(out / "summary.parquet")
    return sum(len(table) for table in tables)


def _refuse_too_long(trio: Trio, prompts: dict[str, list[str]], max_new_tokens: int) -> None:
    """No completion may run past the context of a model."""
    longest = max(len(encode(trio.tokenizers[name], prompt)) for name, own in prompts.items() for prompt in own)
    if trio.context is not None and longest + max_new_tokens > trio.context:
        raise InterpError(
            f"traces.max_new_tokens = {max_new_tokens}: with the longest prompt ({longest} tokens) it passes the "
            f"models' context of {trio.context}; lower it"
        )


def _warn_unfinished(name: str, rollouts: list[Rollout], limit: int) -> None:
    """Print a line where many completions were cut at the limit: their answers count as wrong."""
    cut = sum(not r.finished for r in rollouts) / len(rollouts)
    if cut > UNFINISHED:
        console.print(f"  {name}: {cut:.0%} of the completions reached traces.max_new_tokens = {limit}")


def _warn_ungraded(name: str, grades: list[Grade]) -> None:
    """Print on how many completions the grader raised, and its first error: they count as wrong."""
    errors = [g.error for g in grades if g.error is not None]
    if errors:
        console.print(
            f"  {name}: the grader raised on {len(errors)} of {len(grades)} completions, which count as wrong "
            f"(the first: {errors[0]:.100})",
            markup=False,
            soft_wrap=True,
        )


def prompts_of(trio: Trio, name: str, problems: Sequence[Problem], chat: bool) -> list[str]:
    """The problems' prompts as one model reads them, through its own chat template if `chat`.

    Raises:
        InterpError: its tokenizer has no chat template.
    """
    try:
        return [templated(trio.tokenizers[name], p.prompt, chat) for p in problems]
    except InterpError as error:
        raise InterpError(f"checkpoints.{name} = {trio.paths[name]}: {error}") from error


def templated(tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool) -> str:
    """A prompt as the model reads it; the chat template, if wanted, is applied here and nowhere else.

    Raises:
        InterpError: the tokenizer has no chat template.
    """
    if not chat:
        return prompt
    if tokenizer.chat_template is None:
        raise InterpError(
            "the tokenizer has no chat template; save one beside it (chat_template.jinja), or set "
            "traces.chat_template to false"
        )
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _table(
    name: str,
    problems: list[Problem],
    rollouts: list[Rollout],
    grades: list[Grade],
    task: Task,
    lexicon: Lexicon,
    construction: bool,
) -> pl.DataFrame:
    def spans(text: str) -> list[dict]:
        found = by_construction(text) if construction else by_sentences(text, lexicon)
        return [asdict(span) for span in found]

    rows = [
        {
            "problem": p.id,
            "model": name,
            "prompt": p.prompt,
            "text": r.text,
            "answer": task.answer_of(r.text),
            "correct": g.correct,
            "grader_failed": g.failed,
            "finished": r.finished,
            "n_tokens": len(r.completion_ids),
            "difficulty": p.difficulty,
            "prompt_ids": r.prompt_ids,
            "completion_ids": r.completion_ids,
            "marker_spans": [asdict(span) for span in lexicon.marker_spans(r.text)],
            "behaviour_spans": spans(r.text),
        }
        for p, r, g in zip(problems, rollouts, grades, strict=True)
    ]
    schema = {"answer": pl.String, "marker_spans": SPANS, "behaviour_spans": SPANS}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def with_events(tables: Sequence[pl.DataFrame], trio: Trio) -> list[pl.DataFrame]:
    """The models' tables with the column `events`. The kinds of place that count are those at which the distilled
    model's behaviours begin; where it has none, those at which a step or sentence ends."""
    rows = {table["model"][0]: _labelled(table, trio) for table in tables}
    kinds = common_kinds(event for row in rows[EDITED] for event in onsets(*row))
    kinds = kinds or usual_kinds(text for text, _, _ in rows[EDITED])
    found = [[[asdict(event) for event in events(*row, kinds)] for row in labelled] for labelled in rows.values()]
    return [
        table.with_columns(pl.Series("events", column, dtype=EVENTS))
        for table, column in zip(tables, found, strict=True)
    ]


def _labelled(table: pl.DataFrame, trio: Trio) -> list[tuple[str, list[tuple[int, int]], list[Span]]]:
    """(text, characters of its tokens, behaviours) of every completion of one model."""
    tokenizer = trio.tokenizers[table["model"][0]]
    return [
        (row["text"], token_offsets(tokenizer, row["completion_ids"]), [Span(**s) for s in row["behaviour_spans"]])
        for row in table.iter_rows(named=True)
    ]


def _greedy(name: str, problems: list[Problem], grades: list[Grade]) -> pl.DataFrame:
    graded = {"correct": [g.correct for g in grades], "grader_failed": [g.failed for g in grades]}
    return pl.DataFrame({"problem": [p.id for p in problems], "model": name, **graded})


def _summary(name: str, sampled: Outcomes, greedy: Outcomes, bootstrap: Bootstrap) -> list[dict]:
    measured = {outcome: sampled.interval(outcome, bootstrap) for outcome in OUTCOMES}
    measured["accuracy_greedy"] = greedy.interval("accuracy", bootstrap)
    empty = {"estimate": None, "low": None, "high": None, "refused": None}
    return [{"model": name, "metric": metric, **empty, **value.as_dict()} for metric, value in measured.items()]


def _refuse_ungraded(tables: list[pl.DataFrame]) -> None:
    """Refuse a study in which no model states any answer: it would measure nothing."""
    if all(table["answer"].null_count() == len(table) for table in tables):
        raise InterpError(
            "traces: no completion of any model states an answer that can be graded; check traces.prompt, and that "
            "traces.max_new_tokens leaves room for the answer"
        )
