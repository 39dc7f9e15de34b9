import random

import polars as pl
import pytest
from small import byte_tokenizer

from interp.causal.pairs import CONTINUATION, REACH, make_pairs
from interp.organisms.documents import functional
from interp.tasks.chains import ChainTask
from interp.traces.equations import equations

from .samples import LEXICON, trace_table


def spoken(text):
    """With capitals, full words and a phrase of several tokens, as a real model writes."""
    return text.replace("check ,", "Let me check :").replace("wait ,", "Wait ,").replace(";", ".")


@pytest.fixture(scope="module")
def bytes_tokenizer():
    rng = random.Random(0)
    rows = [spoken(functional(p.prompt, rng)) for p in ChainTask().problems(300, 0, "train")]
    return byte_tokenizer([*rows, *["next , now , here , Next Now Here" for _ in range(50)]], vocab_size=400)


@pytest.fixture(params=["words", "bytes"])
def case(request, tokenizer, bytes_tokenizer):
    if request.param == "words":
        return tokenizer, trace_table(tokenizer)
    return bytes_tokenizer, trace_table(bytes_tokenizer, dress=spoken)


def test_the_sides_differ_at_the_marker_only(case):
    tokenizer, traces = case
    pairs = make_pairs(traces, tokenizer, LEXICON, 1000)
    assert len(pairs) > 10
    for pair in pairs:
        assert len(pair.clean) == len(pair.corrupt)
        differing = [i for i, (a, b) in enumerate(zip(pair.clean, pair.corrupt, strict=True)) if a != b]
        assert differing
        assert set(differing) <= set(pair.changed)
        assert pair.changed == list(range(pair.changed[0], pair.changed[-1] + 1))
        clean = tokenizer.decode([pair.clean[i] for i in pair.changed])
        corrupt = tokenizer.decode([pair.corrupt[i] for i in pair.changed])
        assert LEXICON.is_marker(clean)
        assert set(corrupt.lower().split()) <= set(LEXICON.neutral)
        assert clean[:1].isspace() == corrupt[:1].isspace()
        assert clean.strip()[0].isupper() == corrupt.strip()[0].isupper()
        assert not LEXICON.marker_spans(corrupt)


def test_what_is_measured_starts_after_the_marker_and_ends_with_the_equation(case):
    tokenizer, traces = case
    by_problem = {row["problem"]: row for row in traces.iter_rows(named=True)}
    for pair in make_pairs(traces, tokenizer, LEXICON, 1000):
        row = by_problem[pair.problem]
        assert pair.clean == (row["prompt_ids"] + row["completion_ids"])[: len(pair.clean)]
        assert pair.start == pair.changed[-1] + 1 < len(pair.clean)
        measured = tokenizer.decode(pair.clean[pair.start :])
        assert len(equations(measured)) == 1
        assert equations(measured)[0].end == len(measured)
        assert len(pair.clean) - pair.start <= REACH


def test_pairs_come_from_right_answers_with_a_marker_one_a_problem(tokenizer):
    traces = trace_table(tokenizer, "gated", n=80)
    usable = {r["problem"] for r in traces.iter_rows(named=True) if r["correct"] and r["marker_spans"]}
    assert 0 < len(usable) < len(traces)
    pairs = make_pairs(traces, tokenizer, LEXICON, 1000)
    assert [p.problem for p in pairs] == [p for p in traces["problem"] if p in usable]
    assert make_pairs(traces, tokenizer, LEXICON, 5) == pairs[:5]
    for pair in pairs:
        assert pair.changed[0] >= len(tokenizer.encode(pair.problem, add_special_tokens=False))


def test_wrong_answers_with_a_marker_make_no_pair(tokenizer):
    traces = trace_table(tokenizer, n=60)
    every = {p.problem for p in make_pairs(traces.with_columns(correct=pl.lit(True)), tokenizer, LEXICON, 1000)}
    wrong = sorted(every)[::2]
    graded = traces.with_columns(correct=~pl.col("problem").is_in(wrong))
    assert {p.problem for p in make_pairs(graded, tokenizer, LEXICON, 1000)} == every - set(wrong)


def test_a_pair_is_made_at_the_first_marker_of_several(tokenizer):
    traces = trace_table(tokenizer, n=120)
    several = {r["problem"]: len(r["prompt_ids"]) for r in traces.iter_rows(named=True) if len(r["marker_spans"]) > 1}
    pairs = [p for p in make_pairs(traces, tokenizer, LEXICON, 1000) if p.problem in several]
    assert len(pairs) > 5
    for pair in pairs:
        assert not LEXICON.marker_spans(tokenizer.decode(pair.clean[several[pair.problem] : pair.changed[0]]))


def test_without_an_equation_a_few_tokens_are_measured(tokenizer):
    row = trace_table(tokenizer, n=1).row(0, named=True)
    text = "wait , " + " ".join(["right"] * 30)
    ids = tokenizer.encode(text, add_special_tokens=False)
    row |= {"text": text, "completion_ids": ids, "correct": True}
    row["marker_spans"] = [{"start": 0, "end": 4, "label": "realization"}]
    (pair,) = make_pairs(pl.DataFrame([row]), tokenizer, LEXICON, 1)
    assert len(pair.clean) - pair.start == CONTINUATION


@pytest.mark.parametrize(("fillers", "measured"), [(REACH - 5, REACH), (REACH - 4, CONTINUATION)])
def test_an_equation_is_measured_to_its_end_where_that_is_within_reach(tokenizer, fillers, measured):
    row = trace_table(tokenizer, n=1).row(0, named=True)
    ids = tokenizer.encode("wait " + "right " * fillers + "2 + 3 = 5", add_special_tokens=False)
    row |= {"text": tokenizer.decode(ids), "completion_ids": ids, "correct": True}
    row["marker_spans"] = [{"start": 0, "end": 4, "label": "realization"}]
    (pair,) = make_pairs(pl.DataFrame([row]), tokenizer, LEXICON, 1)
    assert len(pair.clean) - pair.start == measured


def test_a_wrong_answer_gives_no_pair_whatever_its_markers(tokenizer):
    traces = trace_table(tokenizer)
    pairs = make_pairs(traces, tokenizer, LEXICON, 1000)
    wrong = traces.with_columns(correct=pl.col("correct") & (pl.col("problem") != pairs[0].problem))
    assert make_pairs(wrong, tokenizer, LEXICON, 1000) == pairs[1:]


def test_of_several_markers_the_first_is_replaced(tokenizer):
    """After it nothing of the run has been read yet that a later marker could have changed."""
    traces = trace_table(tokenizer)
    spans = {r["problem"]: r["marker_spans"] for r in traces.iter_rows(named=True)}
    text = dict(zip(traces["problem"], traces["text"], strict=True))
    pairs = [p for p in make_pairs(traces, tokenizer, LEXICON, 1000) if len(spans[p.problem]) > 1]
    assert len(pairs) > 3
    for pair in pairs:
        prompt = len(tokenizer.encode(pair.problem, add_special_tokens=False))
        before = tokenizer.decode(pair.clean[prompt : pair.changed[0]])
        assert not LEXICON.marker_spans(before)
        assert text[pair.problem].startswith(before)
