"""Imports point down the way of the data, never up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "interp"
UTILITIES = ("errors", "statistics", "config", "folders", "progress")
WAY = ("tasks", "traces", "models", "activations", "crosscoder", "features", "causal", "report")
TOP = ("study", "stages", "trials", "summary", "cli")
MAY_IMPORT_TRANSFORMERS = ("models", "activations", "traces", "causal", "features", "stages")
MODEL_LIBRARIES = {"transformers", "transformer_lens", "trl", "tokenizers", "datasets", "accelerate"}
MODULES = sorted(ROOT.rglob("*.py"))


def imported(path):
    """Every module that a file imports, also inside functions and for the type checker alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module)
            if node.module == "interp":
                found |= {f"interp.{alias.name}" for alias in node.names}
    return found


def part(path):
    """The package or module right under `interp` that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def ours(path):
    return {name.split(".")[1] for name in imported(path) if name.startswith("interp.")}


def libraries(path):
    return {name.split(".")[0] for name in imported(path)} - {"interp"}


def name(path):
    return str(path.relative_to(ROOT))


def test_every_part_has_its_place():
    assert {part(p) for p in MODULES} - {"__init__"} == {*UTILITIES, *WAY, *TOP}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) in WAY], ids=name)
def test_a_package_imports_utilities_and_packages_before_it(path):
    before = WAY[: WAY.index(part(path)) + 1]
    assert ours(path) <= {*UTILITIES, *before}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) in UTILITIES], ids=name)
def test_utilities_import_utilities_only(path):
    assert ours(path) <= set(UTILITIES)


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "crosscoder"], ids=name)
def test_the_crosscoder_knows_tensors_only(path):
    assert ours(path) <= {"crosscoder", "errors"}
    assert not libraries(path) & MODEL_LIBRARIES


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "report"], ids=name)
def test_the_report_reads_files_only(path):
    assert ours(path) <= {"report", "errors"}
    assert not libraries(path) & {*MODEL_LIBRARIES, "torch", "safetensors"}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "tasks"], ids=name)
def test_tasks_know_nothing_of_models(path):
    """Their problems may come from the hub, through `datasets`."""
    assert not libraries(path) & ({*MODEL_LIBRARIES, "torch"} - {"datasets"})


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_some_may_import_model_libraries(path):
    if part(path) not in (*MAY_IMPORT_TRANSFORMERS, "tasks"):
        assert not libraries(path) & MODEL_LIBRARIES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_pickle_and_no_path_tricks(path):
    text = path.read_text()
    assert not libraries(path) & {"pickle", "dill", "joblib"}
    assert "sys.path" not in text
    assert text.count("torch.load(") == text.count("weights_only=True")


def test_importing_the_report_loads_no_torch():
    code = "import sys, interp.report; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_there_is_no_circle():
    """Each module can be imported first."""
    names = [".".join(("interp", *p.relative_to(ROOT).with_suffix("").parts)) for p in MODULES]
    light = [n.removesuffix(".__init__") for n in names if n.split(".")[1] in ("tasks", "folders", "config", "study")]
    for module in light:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)
