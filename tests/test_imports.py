"""Imports point down the way of the data, never up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "interp"
UTILITIES = (
    "errors",
    "names",
    "memory",
    "statistics",
    "sections",
    "dictionary_sections",
    "config",
    "disk",
    "locks",
    "tensors",
    "folders",
    "progress",
    "workers",
)
WAY = (
    "tasks",
    "traces",
    "generation",
    "models",
    "organisms",
    "activations",
    "crosscoder",
    "directions",
    "features",
    "causal",
    "report",
)
TOP = ("study", "stages", "pipeline", "steering", "trials", "calibration", "summary", "cli")
MAY_IMPORT_TRANSFORMERS = (
    "models",
    "organisms",
    "activations",
    "traces",
    "generation",
    "causal",
    "features",
    "stages",
    "steering",
)
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
    """But for the engine's own config models, which a study's config embeds."""
    engines = {"crosscoder"} if "interp.crosscoder.config" in imported(path) else set()
    assert ours(path) - engines <= set(UTILITIES)
    assert {name for name in imported(path) if name.startswith("interp.crosscoder")} <= {"interp.crosscoder.config"}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "crosscoder"], ids=name)
def test_the_crosscoder_knows_tensors_only(path):
    assert ours(path) <= {"crosscoder", "errors", "locks", "memory", "tensors"}
    assert not libraries(path) & MODEL_LIBRARIES


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "directions"], ids=name)
def test_directions_know_tensors_and_files_only(path):
    assert ours(path) <= {"directions", "errors", "disk", "folders", "tensors"}
    assert not libraries(path) & MODEL_LIBRARIES


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "report"], ids=name)
def test_the_report_reads_files_only(path):
    assert ours(path) <= {"report", "errors", "names"}
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
    own = {"cloudpickle"} if path.name == "workers.py" else set()  # what it reads it has just written
    assert not libraries(path) & {"pickle", "cloudpickle", "dill", "joblib"} - own
    assert "sys.path" not in text
    assert text.count("torch.load(") == text.count("weights_only=True")


def test_importing_the_report_loads_no_torch():
    code = "import sys, interp.report; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def named(path):
    """A file's module."""
    return ".".join(("interp", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def at_load(body):
    """Import statements that run when a module is loaded: neither inside functions nor for the type checker alone."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            yield from at_load(node.body + node.orelse)


def graph_of(statements):
    """Module to the project's modules that `statements(tree)` of its file import; of `from a import b` it is `a.b`
    where that is a module, else `a`."""
    modules = {named(p) for p in MODULES}
    graph = {}
    for path in MODULES:
        found = set()
        for node in statements(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            else:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner & modules
                if inner - modules:
                    found.add(node.module)
        graph[named(path)] = (found & modules) - {named(path)}
    return graph


def circle(graph):
    """A circle of imports, or None."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return None
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if (found := visit(other)) is not None:
                return found
        done.add(path.pop())
        return None

    return next((found for module in sorted(graph) if (found := visit(module)) is not None), None)


def everywhere(tree):
    return (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_there_is_no_circle():
    assert circle(graph_of(lambda tree: at_load(tree.body))) is None


def test_there_is_no_circle_through_imports_inside_functions_either():
    assert circle(graph_of(everywhere)) is None


def test_each_list_of_names_is_written_once():
    """Models, behaviours, outcomes and stages: a copy would go its own way."""
    from interp import names
    from interp.pipeline import STAGES

    lists = {getattr(names, name) for name in ("MODELS", "COMPARED", "BEHAVIOURS", "OUTCOMES", "STAGE_NAMES")}
    assert tuple(stage.name for stage in STAGES) == names.STAGE_NAMES
    for path in MODULES:
        if path.name == "names.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Tuple) and all(isinstance(e, ast.Constant) for e in node.elts):
                assert tuple(e.value for e in node.elts) not in lists, f"{path}:{node.lineno}"
