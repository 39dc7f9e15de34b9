"""How the stage asks each model, and what it makes of a grader that raises."""

import json

import polars as pl
import pytest
import specials

from interp.config import check_config
from interp.errors import InterpError
from interp.models.trio import open_trio
from interp.stages import traces
from interp.study import Study
from interp.tasks.base import Problem
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask
from interp.tasks.grading import Grade
from interp.traces.lexicon import load_lexicon
from interp.traces.measure import grade_all
from interp.traces.rollouts import Rollout
from interp.traces.tokens import encode

PROBLEMS = [Problem(str(i), "Q 3 + 4 A", "7") for i in range(3)]
ROLLOUTS = [Rollout([0], [1, 2], text, True) for text in ("#### 7", "odd", "#### 8")]


class Fragile(ChainTask):
    def correct(self, problem, completion):
        return {"#### 7": True, "#### 8": False}[completion]


@pytest.fixture
def grades():
    return grade_all(Fragile(), PROBLEMS, ROLLOUTS)


def test_failures_have_a_column_in_both_tables(grades):
    sampled = traces._table("base", PROBLEMS, ROLLOUTS, grades, Fragile(), load_lexicon("default"), True)
    for table in (sampled, traces._greedy("base", PROBLEMS, grades)):
        assert table["correct"].to_list() == [True, False, False]
        assert table["grader_failed"].to_list() == [False, True, False]


def test_one_line_names_how_many_of_which_model_and_what_was_raised(grades, capsys):
    traces._warn_ungraded("zero_rl", grades)
    said = capsys.readouterr().err
    assert (
        said
        == "  zero_rl: the grader raised on 1 of 3 completions, which count as wrong (the first: KeyError: 'odd')\n"
    )


def test_nothing_is_said_where_nothing_was_raised(capsys):
    traces._warn_ungraded("zero_rl", [Grade(correct=False)])
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return specials.save_trio(tmp_path_factory.mktemp("others"))


@pytest.fixture
def study(tmp_path, others):
    problems = tmp_path / "problems.jsonl"
    rows = [{"question": f"What is {i} + {i + 3} ?", "answer": 2 * i + 3} for i in range(24)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "models.json").write_text(json.dumps({n: {"path": p} for n, p in others.items()}))
    settings = {"file": str(problems), "chat_template": True, "max_new_tokens": 60}
    raw = {"device": "cpu", "threads": 1, "checkpoints": others, "traces": settings}
    return Study(check_config(raw, "here"), tmp_path)


def test_each_model_is_asked_in_its_own_template_and_ends_with_its_own_tokens(study, others):
    out = study.folder("traces")
    out.mkdir()
    assert traces.run(study, out) == 72
    trio, table = open_trio(others), pl.read_parquet(out / "traces.parquet")
    first, second = specials.slots()[0], specials.slots()[2]
    ends = {"base": {first, second}, "distilled": {first}, "zero_rl": {first, second}}
    for row in table.iter_rows(named=True):
        tokenizer = trio.tokenizers[row["model"]]
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
        )
        assert row["prompt_ids"] == encode(tokenizer, asked)
        assert not ends[row["model"]] & set(row["completion_ids"])
        assert row["text"] == tokenizer.decode(row["completion_ids"])
        assert row["finished"] or len(row["completion_ids"]) == 60
    for model in others:
        assert table.filter(pl.col("model") == model)["finished"].any(), "so that there is something to notice"
    written = table.filter(pl.col("model") == "distilled")["completion_ids"].explode()
    assert second in written, "the base's end is an ordinary piece of the chat to it"


def test_every_completion_is_graded_once(study, monkeypatch):
    graded = []

    class Counting(FileTask):
        def correct(self, problem, completion):
            graded.append(problem.id)
            return len(completion) % 2 == 0

    monkeypatch.setattr(traces, "task_of", lambda config: Counting(study.config.traces.file))
    out = study.folder("traces")
    out.mkdir()
    traces.run(study, out)
    assert len(graded) == 2 * 3 * 24, "sampled and greedy, of three models"
    summary = pl.read_parquet(out / "summary.parquet")
    for metric, table in (("accuracy", "traces"), ("accuracy_greedy", "greedy")):
        right = pl.read_parquet(out / f"{table}.parquet").group_by("model").agg(pl.col("correct").mean())
        stated = summary.filter(pl.col("metric") == metric)
        assert dict(zip(stated["model"], stated["estimate"], strict=True)) == pytest.approx(dict(right.iter_rows()))


def test_a_model_without_a_chat_template_is_named(study, others, tmp_path):
    import shutil

    shutil.copytree(others["zero_rl"], tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    paths = others | {"zero_rl": str(tmp_path / "plain")}
    (tmp_path / "checkpoints" / "models.json").write_text(json.dumps({n: {"path": p} for n, p in paths.items()}))
    with pytest.raises(
        InterpError, match=r"checkpoints\.zero_rl = .*no chat template.*traces\.chat_template"
    ) as caught:
        traces.run(study, tmp_path)
    assert "\n" not in str(caught.value)
