"""A path is a path: `[`, `*` and `?` in a folder's name are not patterns."""

import ast
import shutil
from pathlib import Path

import polars as pl
import pytest

from interp.report.inputs import Reader
from interp.report.schemas import SUMMARY
from interp.tasks.file import read_rows
from interp.traces.rollouts import read_rollouts

ROOT = Path(__file__).parents[1]
READERS = {"read_parquet", "scan_parquet", "read_csv", "scan_csv", "read_ipc", "scan_ipc", "scan_ndjson"}
SCRIPTS = sorted([*ROOT.glob("interp/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def test_every_reader_of_polars_takes_its_path_as_it_stands():
    lax = []
    for path in SCRIPTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                if not (isinstance(given.get("glob"), ast.Constant) and given["glob"].value is False):
                    lax.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert lax == []


@pytest.fixture
def siblings(tmp_path):
    """A folder whose name is a pattern that matches its sibling's, and the sibling with other data."""
    for name, text in (("sweep[1]", "mine"), ("sweep1", "theirs")):
        folder = tmp_path / name / "traces"
        folder.mkdir(parents=True)
        row = {"problem": "p", "model": "base", "text": text, "n_tokens": 1, "question": text, "answer": 1}
        row |= {"metric": text, "estimate": 0.5}
        for file in ("traces.parquet", "summary.parquet"):
            pl.DataFrame([row]).write_parquet(folder / file)
    return tmp_path / "sweep[1]"


def check_readers(root):
    assert read_rollouts(root / "traces" / "traces.parquet")["text"].to_list() == ["mine"]
    assert Reader(root).table("traces/summary.parquet", SUMMARY)["metric"].to_list() == ["mine"]
    ((_, row),) = read_rows(root / "traces" / "traces.parquet")
    assert row["question"] == "mine"


def test_a_folder_whose_name_is_a_pattern_is_read_itself(siblings):
    check_readers(siblings)


def test_also_without_the_sibling(siblings):
    shutil.rmtree(siblings.with_name("sweep1"))
    check_readers(siblings)
