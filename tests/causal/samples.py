"""Rows of the table of traces, written by the organisms' own writers instead of a model."""

import random
from dataclasses import asdict

import polars as pl

from interp.organisms.kinds import KINDS
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import decode, encode

LEXICON = load_lexicon("default")


def trace_table(tokenizer, kind="functional", n=60, seed=0, dress=lambda text: text):
    """`dress` changes a trace's text, so that it can be written in another style."""
    rng, task, rows = random.Random(seed), ChainTask(), []
    for problem in task.problems(n, seed, "test"):
        ids = encode(tokenizer, dress(KINDS[kind].write(problem.prompt, rng)))
        text = decode(tokenizer, ids)
        rows.append(
            {
                "problem": problem.id,
                "text": text,
                "correct": task.correct(problem, text),
                "prompt_ids": encode(tokenizer, problem.prompt),
                "completion_ids": ids,
                "marker_spans": [asdict(span) for span in LEXICON.marker_spans(text)],
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
