"""The notebook on steering: it runs from top to bottom, and what is kept of it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.conftest import CONFIG

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "notebooks" / "steering.ipynb"


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What every code cell printed or returned."""
    return [
        "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)
        for cell in code(notebook)
    ]


def test_the_notebook_runs_on_the_tiny_organism(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tiny"
    shutil.copytree(study, out)
    small = tmp_path / "small.yaml"
    small.write_text(CONFIG.read_text() + "steering: {problems: 32}\n")
    options = {
        "INTERP_CONFIG": small,
        "INTERP_OUT": out,
        "INTERP_PROBLEMS": 32,
        "INTERP_DRAWS": 3,
        "OMP_NUM_THREADS": 1,
    }
    for name, value in options.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code(notebook):
        cell.outputs = []
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    said = texts(notebook)
    assert "texts changed; the first:" in said[3]
    assert "True Direction(blocks.1.hook_resid_post" in said[-1] and "cosine 1.0000" in said[-1]
    assert (out / "steering" / "mine.gguf").is_file()
    assert any("image/png" in o.get("data", {}) for cell in code(notebook) for o in cell.outputs)


def test_its_outputs_are_kept_whole_and_name_no_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) == 15
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    kinds = [out.output_type for cell in code(notebook) for out in cell.outputs]
    assert "error" not in kinds and "display_data" in kinds
    # The first two define things; each of the others shows something.
    assert all(cell.outputs for cell in code(notebook)[2:])
    whole = NOTEBOOK.read_text()
    assert not [word for word in ("/root", "/home", "/work", "/tmp", "site-packages") if word in whole]
    assert len(whole) < 400_000
