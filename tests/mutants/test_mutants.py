"""The mutation operators by example, the sample, the choice of tests and the counting."""

import ast
from pathlib import Path

import pytest

from mutants.choose import Mutant, mutants, sample
from mutants.matching import matching
from mutants.report import killed_share
from mutants.results import Results
from mutants.trials import KILLED, SURVIVED, TIMED_OUT, Result, failing

ROOT = Path(__file__).parents[2]


def changes(line, kind):
    return [m.after for m in mutants("a.py", line) if m.kind == kind]


@pytest.mark.parametrize(
    ("line", "kind", "expected"),
    [
        ("a < b <= c", "comparison", ["a <= b <= c", "a < b < c"]),
        ("a is not b", "comparison", ["a is b"]),
        ("a  not in (b)", "comparison", ["a  in (b)"]),
        ("x = (a) - (b)", "arithmetic", ["x = (a) + (b)"]),
        ("x += 'é' * 2", "arithmetic", ["x -= 'é' * 2", "x += 'é' / 2"]),
        ("x = -a", "sign", ["x = a"]),
        ("x = 3, 0.5, 1e-12, True", "constant", [
            "x = 4, 0.5, 1e-12, True",
            "x = 3, 1.0, 1e-12, True",
            "x = 3, 0.5, 1.0, True",
            "x = 3, 0.5, 1e-12, False",
        ]),
        ("y = [x for x in a if x]", "condition", ["y = [x for x in a if not (x)]"]),
        ("y = not a, ~b", "negation", ["y = a, ~b", "y = not a, b"]),
        ("y = a and b or c", "connective", ["y = a and b and c", "y = a or b or c"]),
        ("f(a, b, c)", "arguments", ["f(b, a, c)"]),
        ("max(a, b)", "arguments", []),
        ("y = x[1:n]", "bounds", ["y = x[:n]", "y = x[1:]"]),
        ("y = max(a)", "name", ["y = min(a)"]),
        ("y = a.mean(1)", "name", ["y = a.sum(1)"]),
        ("f()", "statement", ["pass"]),
    ],
)  # fmt: skip
def test_an_operator_changes_what_it_is_for(line, kind, expected):
    assert changes(line, kind) == expected


def test_a_change_over_several_lines_is_shown_whole():
    (found,) = [m for m in mutants("a.py", "def f():\n    return g(\n        a,\n    )\n") if m.kind == "return"]
    assert (found.function, found.before, found.after) == ("f", "return g(\na,\n)", "return None")
    assert found.text == "def f():\n    return None\n"


@pytest.mark.parametrize(
    "untouched",
    [
        'def f(a: Literal[1]) -> Array[2]:\n    """One of 3."""',
        "@lru_cache(maxsize=4)\nclass A: ...",
        "raise InterpError(f'{1 + 1}')",
        "assert a < 1",
        "logging.getLogger(a).setLevel(1)",
        "warnings.warn('a' + 'b')",
        "Rows = list[dict[1, 2]]",
        "if TYPE_CHECKING:\n    x = 1",
        "x = f'{a + 1}'",
    ],
)
def test_annotations_messages_and_logging_are_left_alone(untouched):
    assert [m for m in mutants("a.py", untouched) if m.after != "pass"] == []


def test_every_other_line_of_zip_is_mutated_but_not_its_check():
    assert changes("zip(a[1:], b, strict=True)", "constant") == ["zip(a[2:], b, strict=True)"]


def test_the_sample_is_seeded_and_valid():
    drawn = sample(ROOT, ["interp/tasks"], 20, seed=0)
    assert drawn == sample(ROOT, ["interp/tasks"], 20, seed=0) != sample(ROOT, ["interp/tasks"], 20, seed=1)
    assert len({m.identity for m in drawn}) == 20
    for mutant in drawn:
        ast.parse(mutant.text)


def test_a_change_elsewhere_leaves_the_draws_as_they_were(tmp_path):
    (tmp_path / "a.py").write_text("def f(a, b):\n    return a + b * 2 - 3\n")
    before = {m.identity for m in sample(tmp_path, ["a.py"], 99, 0)}
    (tmp_path / "a.py").write_text("x = 1\n\n\ndef f(a, b):\n    return a + b * 2 - 3\n")
    assert before < {m.identity for m in sample(tmp_path, ["a.py"], 99, 0)}


def test_a_modules_own_tests_come_first():
    found = matching(ROOT, "interp/causal/edits.py", {})
    assert found[0] == "tests/causal/test_edits.py"
    assert set(found) >= {str(p.relative_to(ROOT)) for p in (ROOT / "tests/causal").glob("test_*.py")}
    assert not [test for test in found if test.startswith(("tests/end_to_end", "tests/mutants"))]


def test_equally_near_tests_come_fastest_first():
    slow = "tests/causal/test_verdict.py"
    assert matching(ROOT, "interp/causal/subject.py", {slow: 100.0})[-1] == slow


def result(outcome, function="f"):
    return Result(Mutant("a.py", function, "sign", "-x", "x", 0, ""), outcome, "", 0.0)


def test_the_share_killed_leaves_equivalents_out_and_counts_timeouts():
    every = [result(KILLED), result(TIMED_OUT), result(SURVIVED), result(SURVIVED, "g")]
    assert killed_share(every, ()) == 0.5
    assert killed_share(every, {("a.py", "g", "-x", "x")}) == pytest.approx(2 / 3)


def test_the_failing_test_is_read_from_the_summary():
    assert failing("1 failed\nFAILED tests/a.py::test_b[1] - assert 1 == 2\n") == "tests/a.py::test_b[1]"
    assert failing("") == ""


def test_a_torn_last_line_of_the_results_is_left_out(tmp_path):
    results = Results(tmp_path / "r.jsonl")
    results.put("a", outcome=KILLED)
    with results.path.open("a") as file:
        file.write('{"key": "b", "outc')
    again = Results(tmp_path / "r.jsonl")
    assert again.get("a") == {"key": "a", "outcome": KILLED} and again.get("b") is None
