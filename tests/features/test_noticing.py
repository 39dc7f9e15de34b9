"""What a model does after an injected error, from its texts and its next token, against the same worked out by hand."""

from dataclasses import replace

import polars as pl
import pytest
import torch
from small import small_model

from interp.features import noticing
from interp.features.contrasts import InjectedPair
from interp.features.margin import Margin
from interp.features.noticing import NOTICES, SCHEMA, Judge, notice, summarise
from interp.generation.sampling import writing
from interp.organisms.chains import CHAINS
from interp.statistics import bootstraps
from interp.tasks.chains import ChainTask
from interp.traces.injected import Injected
from interp.traces.lexicon import load_lexicon
from interp.traces.segment import by_construction
from interp.traces.tokens import encode

TOKENIZER, TASK = CHAINS.tokenizer(), ChainTask(3)
PROBLEMS = TASK.problems(6, 0, "test")
JUDGE = Judge(TASK, load_lexicon("default"), {p.id: p for p in PROBLEMS}, by_construction)
HOW = writing(TOKENIZER, 8, 1.0, 0, ())


def pair(problem, right="3 + 4 = 7", wrong="3 + 4 = 8"):
    injected = Injected(4, 0, "digit", right, wrong, 0, 9)
    prompt = encode(TOKENIZER, problem.prompt)
    ids = [[*prompt, *encode(TOKENIZER, text)] for text in (right, wrong)]
    return InjectedPair(problem.id, injected, *ids, len(prompt))


PAIRS = [pair(problem) for problem in PROBLEMS]
COMMA, SEMICOLON = encode(TOKENIZER, ", ;")
MARGIN = Margin((COMMA,), (SEMICOLON,), 1.0, 1.0)


@pytest.fixture(scope="module")
def model():
    return small_model(1)


def test_the_next_token_is_the_models(model):
    table = notice("base", model, TOKENIZER, PAIRS, JUDGE, HOW, MARGIN, 4)
    assert table.schema == pl.Schema(SCHEMA) and table["model"].unique().to_list() == ["base"]
    for row, one in zip(table.iter_rows(named=True), PAIRS, strict=True):
        with torch.inference_mode():
            wrong, right = (
                model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(0) for ids in (one.wrong, one.right)
            )
        assert row["p_onset_wrong"] == pytest.approx(float(wrong[COMMA]), abs=1e-5)
        assert row["p_onset_right"] == pytest.approx(float(right[COMMA]), abs=1e-5)
        assert row["variation"] == pytest.approx(float((wrong - right).abs().sum() / 2), abs=1e-5)


def test_a_model_without_any_right_step_has_no_rows(model):
    table = notice("base", model, TOKENIZER, [], JUDGE, HOW, MARGIN, 4)
    assert len(table) == 0 and len(summarise(table, bootstraps(200, 0))) == 0


def test_without_deciding_tokens_there_is_no_probability_of_an_onset(model):
    table = notice("base", model, TOKENIZER, PAIRS[:2], JUDGE, HOW, None, 4)
    assert table["p_onset_wrong"].is_null().all() and table["variation"].is_not_null().all()


def test_texts_go_on_from_their_own_prefix_whatever_the_batch(model):
    one, other = (notice("base", model, TOKENIZER, PAIRS, JUDGE, HOW, MARGIN, rows) for rows in (1, 6))
    assert all(text.startswith("3 + 4 = 8 ") for text in one["text_wrong"])
    assert all(text.startswith("3 + 4 = 7 ") for text in one["text_right"])
    assert len(set(one["text_right"])) > 1, "each problem has its own noise"
    assert other["text_right"].str.starts_with("3 + 4 = 7").all()


WRITTEN = {
    "mended": ("3 + 4 = 8 , wait , 3 + 4 = 7 ; 7 + 1 = 8 #### 8", True, True),
    "checked and wrong again": ("3 + 4 = 8 , wait , 3 + 4 = 9 ; 9 + 1 = 0 #### 0", True, False),
    "not noticed": ("3 + 4 = 8 ; 8 + 1 = 9 #### 9", False, False),
    "another step": ("3 + 4 = 8 ; 8 + 1 = 0 , wait , 8 + 1 = 9 #### 9", False, False),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_checks_mends_and_answers_are_read_off_the_text(model, monkeypatch, name):
    text, checks, mends = WRITTEN[name]
    right = "3 + 4 = 7 ; 7 + 1 = 8 #### 8"
    problem = replace(PROBLEMS[0], answer=text[-1])
    judge = replace(JUDGE, problems={problem.id: problem})
    written = {"wrong": text, "right": right}
    monkeypatch.setattr(
        noticing,
        "_go_on",
        lambda model, tokenizer, pairs, side, how, rows: [(written[side], encode(TOKENIZER, written[side]))],
    )
    row = notice("base", model, TOKENIZER, [pair(problem)], judge, HOW, MARGIN, 4).row(0, named=True)
    assert (row["checks_wrong"], row["repaired"], row["checks_right"]) == (checks, mends, False)
    assert (row["correct_wrong"], row["correct_right"]) == (True, text[-1] == "8")


def test_the_summary_is_the_mean_over_the_models_own_errors():
    rows = [
        {"problem": f"p{i}", "model": name, "variation": v, "repaired": r, "checks_wrong": r, "checks_right": False}
        | {"correct_wrong": True, "correct_right": True}
        for name, given in (("base", [(0.0, False)] * 4), ("distilled", [(1.0, True)] * 3 + [(0.2, False)]))
        for i, (v, r) in enumerate(given)
    ]
    table = summarise(pl.DataFrame(rows), bootstraps(200, 0))
    assert set(table["measure"]) == set(NOTICES) and table["n"].unique().to_list() == [4]

    def estimate(name, measure):
        return table.row(by_predicate=(pl.col("model") == name) & (pl.col("measure") == measure), named=True)

    assert estimate("distilled", "repaired")["estimate"] == 0.75
    assert estimate("distilled", "variation")["estimate"] == pytest.approx(0.8)
    assert estimate("base", "repaired")["estimate"] == 0.0 and estimate("base", "repaired")["high"] > 0.1
    assert estimate("distilled", "checks_right")["estimate"] == 0.0
