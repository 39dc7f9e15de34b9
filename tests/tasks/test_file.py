import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from interp.errors import InterpError
from interp.tasks.answers import same_answer
from interp.tasks.base import Problem
from interp.tasks.file import FileTask, read_rows

ROWS = [
    {"question": "What is 1 + 1?", "answer": 2, "trace": "1 + 1 = 2 #### 2"},
    {"question": "Half of {question}?", "answer": " 0.5 "},
    {"question": "Größe “x”?", "answer": "\\frac{1}{2}"},
]


def jsonl(tmp_path, rows, ensure_ascii=True):
    path = tmp_path / "rows.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=ensure_ascii) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def parquet(tmp_path, rows):
    path = tmp_path / "rows.parquet"
    pl.DataFrame(rows, infer_schema_length=None, strict=False).write_parquet(path)
    return path


def refusal(path, n=10):
    with pytest.raises(InterpError) as caught:
        FileTask(path).problems(n)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_problems_come_in_the_files_order(tmp_path, write):
    rows = [{**row, "answer": str(row["answer"]), "trace": row.get("trace")} for row in ROWS]
    task = FileTask(write(tmp_path, rows), prompt="Q: {question}\nA:")
    problems = task.problems(10)
    assert [p.prompt for p in problems] == [f"Q: {row['question']}\nA:" for row in ROWS]
    assert [p.answer for p in problems] == ["2", "0.5", "\\frac{1}{2}"]
    assert [p.trace for p in problems] == ["1 + 1 = 2 #### 2", None, None]
    assert len({p.id for p in problems}) == 3
    assert task.problems(2) == problems[:2]


def test_blank_lines_are_skipped_and_still_counted(tmp_path):
    path = jsonl(tmp_path, ["", json.dumps(ROWS[0]), "", json.dumps(ROWS[1])])
    assert [p.id[-1] for p in FileTask(path).problems(9)] == ["2", "4"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path, separator):
    """JSON leaves these separators raw within a text, which `str.splitlines` takes for the end of a line."""
    row = {"question": f"one{separator}two", "answer": 1}
    text = json.dumps(row, ensure_ascii=False)
    assert FileTask(jsonl(tmp_path, [text])).problems(1)[0].prompt == row["question"]


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize(("column", "misspelt"), [("question", "questions"), ("answer", "anwser")])
def test_a_missing_column_names_the_nearest(tmp_path, write, column, misspelt):
    row = {misspelt if key == column else key: str(value) for key, value in ROWS[0].items()}
    message = refusal(write(tmp_path, [row]))
    assert f"no column {column!r}; did you mean {misspelt!r}?" in message
    assert ":1: " in message


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_file(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    assert "empty" in refusal(path)


def test_an_empty_table(tmp_path):
    assert "empty" in refusal(parquet(tmp_path, {"question": [], "answer": []}))


@pytest.mark.parametrize("line", ['{"question": "x", "answer": ', "plain text", '["x", 1]', '"x"', "3", "null"])
def test_a_row_that_is_no_object_names_its_line(tmp_path, line):
    path = jsonl(tmp_path, [ROWS[0], line, ROWS[1]])
    assert f"{path}:2: " in refusal(path)


def test_files_that_are_not_there_or_not_text(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.jsonl")
    path = tmp_path / "rows.parquet"
    path.write_text(json.dumps(ROWS[0]))
    assert "not a Parquet file" in refusal(path)
    binary = tmp_path / "rows.jsonl"
    binary.write_bytes(b"PAR1\xff\xfe\x00")
    refusal(binary)


@pytest.mark.parametrize("answer", ["null", "[1, 2]", '{"a": 1}', "true", '""', '"  "', "NaN", "Infinity"])
def test_an_answer_that_cannot_be_graded_names_its_line(tmp_path, answer):
    path = jsonl(tmp_path, [ROWS[0], f'{{"question": "x", "answer": {answer}}}'])
    message = refusal(path)
    assert f"{path}:2: the answer" in message
    assert len(FileTask(path).problems(1)) == 1, "rows that are not asked for are not judged"


@pytest.mark.parametrize("question", ["null", '""', '"  "', "[]"])
def test_a_question_that_says_nothing_names_its_line(tmp_path, question):
    """A null would otherwise be asked as the word None, and an empty prompt has no token to go on from."""
    path = jsonl(tmp_path, [ROWS[0], f'{{"question": {question}, "answer": 1}}'])
    assert f"{path}:2: the question" in refusal(path)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is 3 #### 42", "42"),
        ("#### 1\nno:\n#### 42", "42"),
        ("#### 42\nand 7 more words", "42"),
        (r"\boxed{7} #### 42", "42"),
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{ 42 }.", "42"),
        ("12 apples and 30 pears make 42.", "42"),
        ("it costs $1,234.50", "1,234.50"),
        ("minus: -42", "-42"),
        ("no number at all", None),
        ("", None),
    ],
)
def test_where_the_answer_stands(completion, answer):
    assert FileTask("none").answer_of(completion) == answer


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("pattern", ["problems[1]", "problems?", "problems*", "problems[0-9]"])
@pytest.mark.parametrize("place", ["{}{}", "{}/rows{}"])
def test_a_path_is_never_a_pattern(tmp_path, write, pattern, place):
    """polars takes brackets for a pattern, and would read the sibling that it matches."""

    def written(name, answer):
        path = write(tmp_path, [{"question": "Q?", "answer": answer}])
        target = tmp_path / place.format(name, path.suffix)
        target.parent.mkdir(exist_ok=True)
        return path.rename(target)

    written("problems1", "sibling")
    path = written(pattern, "mine")
    assert [p.answer for p in FileTask(path).problems(9)] == ["mine"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_half_a_parquet_file_is_one_line(tmp_path, share):
    path = parquet(tmp_path, [{"question": f"{i} and {i}?", "answer": str(2 * i)} for i in range(5)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a Parquet file" in refusal(path)


@pytest.mark.parametrize("panic", ["PanicException", "ComputeError"])
def test_what_polars_raises_names_the_file(tmp_path, monkeypatch, panic):
    """A panic is no Exception; some damages cause one."""

    def read(*_, **__):
        raise getattr(pl.exceptions, panic)("bad\nthrift")

    monkeypatch.setattr(pl, "read_parquet", read)
    path = tmp_path / "rows.parquet"
    path.touch()
    assert "not a Parquet file (bad thrift)" in refusal(path)


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch, write):
    path = write(tmp_path, [{"question": "Q?", "answer": "1"}])

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    monkeypatch.setattr(pl, "read_parquet", denied)
    assert "Permission denied" in refusal(path)


def test_a_bare_fraction_is_one_number():
    """Its denominator alone is another answer, and would be graded right for a gold of 2."""
    task = FileTask("none")
    assert not task.correct(Problem("x", "x", "2"), "the answer is 1/2")


SAME = [
    ("42", "42"),
    ("42", "42.0"),
    ("1000", "1,000"),
    ("0.5", "1/2"),
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\frac{1}{2}"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac{2}{4}", "1/2"),
    (r"\sqrt{4}", "2"),
    ("x + 1", "1 + x"),
    ("Paris", " paris "),
    ("18", "$18"),
    ("18", "18."),
]
OTHER = [
    ("42", "43"),
    ("0.5", r"\frac{1}{3}"),
    ("1/2", "2"),
    ("42", "-42"),
    ("42", ""),
    ("x + 1", "x + 2"),
    ("1", "1/0"),
]


@pytest.mark.parametrize(("gold", "stated"), SAME)
def test_equal_answers(gold, stated):
    assert same_answer(gold, stated)


@pytest.mark.parametrize(("gold", "stated"), OTHER)
def test_different_answers(gold, stated):
    assert not same_answer(gold, stated)


def test_answers_are_compared_in_any_thread():
    """math-verify's own time limit uses signals, which only the main thread can take."""
    same_answer.cache_clear()
    with ThreadPoolExecutor(1) as pool:
        found = list(pool.map(lambda pair: same_answer(*pair), [*SAME, *OTHER]))
    assert found == [True] * len(SAME) + [False] * len(OTHER)


def test_grading_says_nothing_to_the_user():
    code = r"from interp.tasks.answers import same_answer; assert same_answer(r'\frac{1}{2}', '0.5')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_a_monstrous_number_does_not_stop_the_study():
    """`Fraction` would write out its billion digits."""
    code = "from interp.tasks.answers import same_answer; assert not same_answer('1', '1e999999999')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10, capture_output=True)


@pytest.mark.parametrize(
    ("equation", "modulus", "result"),
    [
        (("7", "+", "5"), None, "12"),
        (("7", "-", "12"), None, "-5"),
        (("7", "×", "5"), None, "35"),
        (("6", "/", "3"), None, "2"),
        (("6", "÷", "0"), None, None),
        (("7", "+", "5"), 10, "2"),
        (("3", "-", "9"), 10, "4"),
        (("6", "/", "3"), 10, None),
    ],
)
def test_true_results(equation, modulus, result):
    assert FileTask("none", modulus=modulus).true_result(*equation) == result


def test_rows_say_where_they_are_from(tmp_path):
    path = jsonl(tmp_path, ROWS)
    assert [where for where, _ in read_rows(path)] == [f"{path}:{i}" for i in (1, 2, 3)]
