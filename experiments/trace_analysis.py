"""What do the models' texts look like: how dense in markers, in which words do they differ, what stages, what checks?

    .venv/bin/python experiments/trace_analysis.py results/organism --models distilled base

Reads the stage `traces` of a finished study and writes tables (Parquet) and a figure to `results/trace_analysis`. With
`--judge-url http://localhost:8000/v1 --judge-model NAME` a language model is the second counter of behaviours; its
answers are kept in `judge.jsonl`, so that an interrupted run goes on. Without it, the second counter reads equations
worked again, which a study on arithmetic chains has and prose has not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tyro
from rich.console import Console
from rich.table import Table

from interp.cli import run_script
from interp.config import StudyConfig
from interp.disk import disk_errors
from interp.errors import InterpError
from interp.folders import read_manifest
from interp.locks import locked
from interp.progress import bar
from interp.report.palette import (
    MODEL_COLOURS,
    MODEL_LABELS,
    MODEL_SHAPES,
    Drawing,
    house_style,
    model_legend,
    save,
    sheet,
    whiskers,
)
from interp.stages.problems import labels_by_construction
from interp.statistics import Bootstrap
from interp.summary import interval
from interp.traces.counters import Counts, compare_counters, counts_by_construction, counts_by_rule
from interp.traces.density import by_class, changes, densities
from interp.traces.endpoint import Endpoint, Failure
from interp.traces.judge import failures, judge_all
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Lexicon, load_lexicon, require_pivots
from interp.traces.log_odds import PRIOR_TOTAL, compare, word_counts
from interp.traces.measure import Outcomes
from interp.traces.phases import PHASES, stage_lengths, stage_spans
from interp.traces.rollouts import per_problem, read_rollouts


@dataclass(frozen=True)
class Options:
    """Which texts to read, and how."""

    study: tyro.conf.Positional[Path]
    """Folder of a study whose stage `traces` is done."""
    models: tuple[str, str] = ("distilled", "base")
    """The two models whose words are compared; positive is more in the first."""
    lexicon: str | None = None
    """Bundled lexicon name or JSON file; null takes the study's own."""
    ngram: int = 1
    """Words that are counted together in the comparison of words."""
    prior_total: float = PRIOR_TOTAL
    """Words that the prior of the log-odds is worth."""
    top: int = 12
    """Words of each model that are shown."""
    tokenizer: str | None = None
    """Hugging Face folder or id of the models' tokenizer, for stages in tokens; null counts characters."""
    judge_url: str | None = None
    """Chat-completions endpoint that all texts are sent to, up to `/chat/completions`; null sends none."""
    judge_model: str | None = None
    """Name of the language model there."""
    judge_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key."""
    out: Path = Path("results/trace_analysis")
    """Folder of the tables and the figure."""


@dataclass(frozen=True)
class Tables:
    """What is written, one Parquet file each."""

    densities: pl.DataFrame
    changes: pl.DataFrame
    words: pl.DataFrame
    stages: pl.DataFrame
    counters: pl.DataFrame


def study_config(folder: Path) -> StudyConfig:
    """The config under which the stage `traces` ran."""
    manifest = read_manifest(folder / "traces")
    if manifest is None:
        raise InterpError(f"{folder / 'traces'} is not there; give the folder of a study whose stage `traces` is done")
    return StudyConfig.model_validate(manifest["config"])


def stage_table(rollouts: pl.DataFrame, lexicon: Lexicon, tokenizer: str | None, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row a model and stage: its share of the model's tokens or characters, with the interval over problems."""
    spans = [stage_spans(text, lexicon) for text in rollouts["text"]]
    offsets: Sequence[Any] = [None] * len(spans)
    if tokenizer is not None:
        reader = read_tokenizer(tokenizer)
        offsets = [token_offsets(reader, ids) for ids in rollouts["completion_ids"].to_list()]
    lengths = [stage_lengths(s, o) for s, o in zip(spans, offsets, strict=True)]
    sums = per_problem(rollouts, {stage: [each[stage] for each in lengths] for stage in PHASES})
    shares = {m: Outcomes({s: (by[s], np.sum([*by.values()], axis=0)) for s in PHASES}) for m, by in sums.items()}
    unit = "characters" if tokenizer is None else "tokens"
    rows = [
        {"model": model, "stage": stage, "unit": unit, **share.interval(stage, bootstrap).as_dict()}
        for model, share in shares.items()
        for stage in PHASES
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a Hugging Face folder or id."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InterpError(f"--tokenizer {name}: not a tokenizer; give a Hugging Face folder or id") from error


def second_counter(options: Options, config: StudyConfig, texts: list[str]) -> tuple[str, list[Counts | None]] | None:
    """Name and counts of the second counter: the judge where one is given, else by construction where the study's
    task shows its work in equations, else none. The judge's failures are counted and named."""
    if options.judge_url is not None:
        endpoint = Endpoint(options.judge_url, options.judge_model or "", options.judge_key)
        with bar("asking the judge", len(texts)) as progress:
            answers = judge_all(texts, endpoint, options.out / "judge.jsonl", progress.advance)
        for why, n in failures(answers).most_common():
            print(f"judge: {n} of {len(texts)} rollouts not judged: {why}")
        return "judge", [None if isinstance(answer, Failure) else answer for answer in answers]
    if labels_by_construction(config):
        return "construction", [counts_by_construction(text) for text in texts]
    print(
        "one counter of behaviours alone says little and is not shown; give --judge-url and --judge-model for another"
    )
    return None


def counter_table(options: Options, config: StudyConfig, rollouts: pl.DataFrame, lexicon: Lexicon) -> pl.DataFrame:
    """One row a model and behaviour, as `compare_counters` writes it; no row without a second counter."""
    texts = rollouts["text"].to_list()
    second = second_counter(options, config, texts)
    if second is None:
        return pl.DataFrame()
    name, counts = second
    rule = [counts_by_rule(text, lexicon, recomputed=name == "judge") for text in texts]
    return pl.DataFrame(compare_counters(rollouts, rule, counts, ("rule", name)), infer_schema_length=None)


def analyse(options: Options) -> Tables:
    """Read the study and fill every table."""
    config, rollouts = study_config(options.study), read_rollouts(options.study / "traces" / "traces.parquet")
    lexicon = load_lexicon(options.lexicon or config.traces.lexicon)
    require_pivots(lexicon)
    said = {
        model: word_counts(rollouts.filter(pl.col("model") == model)["text"], options.ngram)
        for model in rollouts["model"].unique(maintain_order=True)
    }
    words = compare(said, *options.models, options.prior_total)  # first: a model's name may be wrong
    bootstrap = Bootstrap(rollouts["problem"].n_unique(), seed=config.seed)
    outcomes = by_class(rollouts, lexicon)
    return Tables(
        pl.DataFrame(densities(outcomes, bootstrap), infer_schema_length=None),
        pl.DataFrame(changes(outcomes, bootstrap), infer_schema_length=None),
        words,
        stage_table(rollouts, lexicon, options.tokenizer, bootstrap),
        counter_table(options, config, rollouts, lexicon),
    )


def print_tables(tables: Tables, options: Options) -> None:
    """All tables, the words' one cut to the top of either model."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    one, other = options.models
    console.print(_density_table(tables, {one, other}))
    title = f"Words by log-odds, {one} against {other} (prior worth {options.prior_total:g} words; z ranks, no test)"
    words = top_words(tables.words, options.top).with_columns(pl.col("log_odds", "z").round(2))
    console.print(_table(title, ["word", one, other, "log-odds", "z", "more in"], words.rows()))
    shares = [[model, *map(interval, rows.to_dicts())] for (model,), rows in _by(tables.stages, "model")]
    title = f"Stages by sentence rules, shares of {tables.stages['unit'][0]} (95 % intervals over problems)"
    console.print(_table(title, ["model", *PHASES], shares))
    if len(tables.counters):
        console.print(_counter_table(tables.counters))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _by(table: pl.DataFrame, column: str) -> Any:
    return table.group_by(column, maintain_order=True)


def _density_table(tables: Tables, pair: set[str]) -> Table:
    models = tables.densities["model"].unique(maintain_order=True).to_list()
    change = tables.changes.filter(pl.col("model").is_in(pair) & pl.col("minus").is_in(pair))
    differences = {row["class"]: interval(row, 2) for row in change.to_dicts()}
    rows = [
        [label, *(interval(row, 2) for row in rows.to_dicts()), differences[label]]
        for (label,), rows in _by(tables.densities, "class")
    ]
    title = "Phrases per 100 tokens (95 % intervals over problems, differences paired)"
    return _table(title, ["class", *models, f"{change['model'][0]} minus {change['minus'][0]}"], rows)


def _counter_table(counters: pl.DataFrame) -> Table:
    first, second = (column.removeprefix("mean_") for column in counters.columns if column.startswith("mean_"))
    rows = []
    for row in counters.to_dicts():
        found = {key.removeprefix("kappa_"): value for key, value in row.items() if key.startswith("kappa_")}
        agreed = f"refused: {found['refused']}" if found.get("refused") else interval(found, 2)
        counts = [f"{row[f'mean_{n}']:.2f} ({row[f'share_{n}']:.0%})" if row["n"] else "-" for n in (first, second)]
        rows.append([row["model"], row["behaviour"], *counts, agreed, row["n"], row["left_out"]])
    header = ["model", "behaviour", f"by {first}", f"by {second}", "Cohen's kappa", "rollouts", "left out"]
    return _table("Behaviours a rollout (share of rollouts with any), by two counters", header, rows)


def top_words(words: pl.DataFrame, n: int) -> pl.DataFrame:
    """The `n` words at either end, the most the first model's own on top."""
    own, others = words.filter(pl.col("z") > 0).head(n), words.filter(pl.col("z") < 0).tail(n)
    return pl.concat([own, others])


def draw(tables: Tables, options: Options) -> Drawing:
    """Densities by class, the words that set two models apart, and the stages."""
    figure, (density, words, stages) = sheet(1, 3, 14.5, 4.6)
    _groups(density, tables.densities, "class")
    density.set_title("Phrases per 100 tokens")
    _groups(stages, tables.stages, "stage")
    stages.set_title(f"Share of {tables.stages['unit'][0]}, by stage")
    shown = top_words(tables.words, options.top)
    words.barh(
        range(len(shown)), shown["z"].to_list(), color=[MODEL_COLOURS[model] for model in shown["more_in"]], height=0.7
    )
    words.set_yticks(range(len(shown)), shown["word"].to_list(), fontsize=8.5)
    words.invert_yaxis()
    words.grid(visible=False, axis="y")
    words.set_title(f"Words, {MODEL_LABELS[options.models[0]]} against {MODEL_LABELS[options.models[1]]} (z)")
    model_legend(figure, density, 4)
    alt = "; ".join(f"{r['model']} {r['class']} {interval(r, 2)}" for r in tables.densities.to_dicts())
    caption = (
        "Bars are 95 % intervals over problems; z is the log-odds ratio over its standard error; stages are rules."
    )
    return Drawing("trace_analysis", figure, f"Phrases per 100 tokens: {alt}.", caption)


def _groups(axes: Any, table: pl.DataFrame, column: str) -> None:
    """One group a value of `column`, one point with its interval a model."""
    names = table[column].unique(maintain_order=True).to_list()
    models = table["model"].unique(maintain_order=True).to_list()
    for row in table.to_dicts():
        at = names.index(row[column]) + 0.17 * (models.index(row["model"]) - (len(models) - 1) / 2)
        label = MODEL_LABELS[row["model"]] if row[column] == names[0] else None
        look = {
            "fmt": MODEL_SHAPES[row["model"]],
            "color": MODEL_COLOURS[row["model"]],
            "ms": 4.5,
            "lw": 1.4,
            "clip_on": False,
        }
        if row["estimate"] is not None:
            sides = whiskers(row["estimate"], row["low"], row["high"])
            bars = None if sides is None else [[side[0]] for side in sides]
            axes.errorbar([at], [row["estimate"]], yerr=bars, label=label, **look)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")


def main(options: Options) -> None:
    """Fill the tables, write, print and draw them."""
    if (options.judge_url is None) != (options.judge_model is None):
        raise InterpError("judge: --judge-url and --judge-model are given together, or neither")
    if options.ngram < 1 or options.top < 1:
        raise InterpError(f"--ngram {options.ngram} --top {options.top}: both must be 1 or more")
    with disk_errors(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out):
        tables = analyse(options)
        for name, table in vars(tables).items():
            table.write_parquet(options.out / f"{name}.parquet")
        print_tables(tables, options)
        with house_style():
            save(draw(tables, options), options.out)


if __name__ == "__main__":
    sys.exit(run_script(main, Options, __doc__))
