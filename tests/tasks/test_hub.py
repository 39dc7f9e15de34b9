import pytest

from interp.errors import InterpError
from interp.tasks.hub import BENCHMARKS, HubTask, read_split
from interp.tasks.splits import bucket

GSM8K = {
    "train": [
        {"question": f"Two and {i}?", "answer": f"It is <<2+{i}={2 + i}>>{2 + i}.\nSo it is.\n#### {2 + i}"}
        for i in range(40)
    ],
    "test": [{"question": f"Two times {i}?", "answer": f"#### {1000 * i:,}"} for i in range(30)]
    + [{"question": "Two and 3?", "answer": "#### 5"}],
}
MATH = {
    "test": [
        {"problem": f"{i}/2?", "solution": f"Half.\n\\boxed{{{i}/2}}", "answer": f"\\frac{{{i}}}2", "level": 1 + i % 5}
        for i in range(100)
    ]
}
AIME = {"train": [{"ID": f"{y}-1", "Year": y, "Question": f"In {y}?", "Answer": "073"} for y in range(1983, 2025)]}
ROWS = {"openai/gsm8k": GSM8K, "HuggingFaceH4/MATH-500": MATH, "gneubig/aime-1983-2024": AIME}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda path, config, split: ROWS[path][split])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_splits_share_no_problem_and_hold_all_of_them_whatever_the_seed(hub, name):
    train, test = (HubTask(name).problems(999, seed, split) for seed, split in ((0, "train"), (1, "test")))
    for problems in (train, test):
        assert len({p.id for p in problems}) == len({p.prompt for p in problems}) == len(problems) > 0
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    questions = [row[BENCHMARKS[name].question] for rows in ROWS[BENCHMARKS[name].path].values() for row in rows]
    assert {p.prompt for p in train + test} == set(questions)
    assert len(test) > len(train) or name == "gsm8k"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_same_seed_gives_the_same_problems_and_a_longer_list_begins_with_the_shorter(hub, name):
    task = HubTask(name)
    problems = task.problems(20, 3, "test")
    assert task.problems(20, 3, "test") == problems
    assert task.problems(25, 3, "test")[:20] == problems
    assert task.problems(20, 4, "test") != problems


@pytest.mark.parametrize("name", ["math500", "aime"])
def test_of_one_split_a_bucket_of_eight_is_for_training(hub, name):
    assert {bucket(p.prompt, 8) for p in HubTask(name).problems(999, 0, "train")} == {0}
    assert 0 not in {bucket(p.prompt, 8) for p in HubTask(name).problems(999, 0, "test")}


def test_only_gsm8k_ends_in_hashes():
    assert {name for name in BENCHMARKS if HubTask(name).hashes_first} == {"gsm8k"}


def test_gsm8k_has_its_worked_lines_for_a_trace_and_their_number_for_a_difficulty(hub):
    problem = next(p for p in HubTask("gsm8k").problems(99, 0, "train") if p.prompt == "Two and 7?")
    assert (problem.answer, problem.trace, problem.difficulty) == ("9", "It is 9.\nSo it is.", 2)
    bare = next(p for p in HubTask("gsm8k").problems(99, 0, "test") if p.prompt == "Two times 4?")
    assert (bare.answer, bare.trace, bare.difficulty) == ("4,000", None, 0)
    assert HubTask("gsm8k").correct(bare, "so 4000 in all.")


def test_math500_has_levels_and_solutions(hub):
    problems = HubTask("math500", prompt="Q: {question}\nA:").problems(99, 0, "test")
    assert {p.difficulty for p in problems} == {1, 2, 3, 4, 5}
    one = next(p for p in problems if p.prompt == "Q: 31/2?\nA:")
    assert one.trace == "Half.\n\\boxed{31/2}"
    for completion, right in ((r"\boxed{15.5}", True), (r"\boxed{\frac{31}{2}}", True), ("it is 31", False)):
        assert HubTask("math500").correct(one, completion) == right


def test_aime_has_years(hub):
    problems = HubTask("aime").problems(99, 0, "test")
    assert all(p.prompt == f"In {p.difficulty}?" for p in problems)
    assert HubTask("aime").correct(problems[0], "#### 73") and not HubTask("aime").correct(problems[0], "#### 37")


def test_equations_are_ordinary_arithmetic_unless_a_modulus_is_given():
    assert HubTask("gsm8k").true_result("7", "+", "5") == "12"
    assert HubTask("gsm8k", modulus=10).true_result("7", "+", "5") == "2"


def test_a_benchmark_that_changed_its_columns_names_the_nearest(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"question": "x", "answers": "#### 1"}])
    with pytest.raises(InterpError, match=r"openai/gsm8k: no column 'answer'; did you mean 'answers'\?"):
        HubTask("gsm8k").problems(1, 0, "test")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_without_the_hub_one_line_says_what_to_do(name):
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(InterpError) as caught:
        read_split(name, BENCHMARKS[name].splits[0])
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"task.kind = {name}", BENCHMARKS[name].path, "Hugging Face hub", "JSONL", "traces.file"):
        assert part in message
