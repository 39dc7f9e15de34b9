import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.tasks.chains import OPERATORS, ChainTask, apply, parse_prompt
from interp.tasks.splits import bucket


@given(terms=st.integers(4, 8), seed=st.integers(0, 1000), other=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_splits_never_meet_whatever_the_seeds(terms, seed, other):
    task = ChainTask(terms)
    train, test = task.problems(300, seed, "train"), task.problems(100, other, "test")
    assert not {p.id for p in train} & {p.id for p in test}
    for split in (train, test):
        assert len({p.id for p in split}) == len({p.prompt for p in split}) == len(split)
        assert all(p.id == p.prompt for p in split)


@pytest.mark.parametrize("terms", [2, 5])
def test_one_bucket_of_eight_is_held_out(terms):
    """Models made before were trained on the other seven: the sides must not move."""
    assert {bucket(p.prompt, 8) for p in ChainTask(terms).problems(30, 0, "test")} == {0}
    assert {bucket(p.prompt, 8) for p in ChainTask(terms).problems(200, 0, "train")} == {1, 2, 3, 4, 5, 6, 7}


def test_longer_chains_are_more():
    assert len(ChainTask(3).problems(7087, 0, "train")) == 7087
    with pytest.raises(InterpError, match="about 7087 can be drawn"):
        ChainTask(3).problems(7088, 0, "train")


def test_the_same_seed_gives_the_same_problems_and_a_longer_list_begins_with_the_shorter():
    task = ChainTask()
    problems = task.problems(50, 3, "train")
    assert task.problems(50, 3, "train") == problems
    assert task.problems(80, 3, "train")[:50] == problems
    assert task.problems(50, 4, "train") != problems
    assert ChainTask(6).problems(50, 3, "train") != problems


@given(seed=st.integers(0, 10_000), terms=st.integers(2, 9))
@settings(max_examples=20, deadline=None)
def test_answers_are_worked_from_left_to_right_modulo_10(seed, terms):
    for problem in ChainTask(terms).problems(5, seed, "train"):
        words = problem.prompt.split()
        assert words[0] == "Q" and words[-1] == "A" and len(words) == 2 * terms + 1
        value = words[1]
        for op, term in zip(words[2:-1:2], words[3:-1:2], strict=True):
            value = f"({value} {op} {term})"
        assert problem.answer == str(eval(value) % 10)
        assert problem.difficulty == problem.prompt.count("*")
        assert parse_prompt(problem.prompt) == ([int(w) for w in words[1:-1:2]], words[2:-1:2])


def test_all_operators_and_digits_occur_and_differences_are_digits():
    text = " ".join(p.prompt for p in ChainTask().problems(200, 0, "train")).split()
    assert {*OPERATORS, *map(str, range(10))} <= set(text)
    assert all(0 <= apply(a, op, b) <= 9 for a in range(10) for b in range(10) for op in OPERATORS)
    assert apply(3, "-", 9) == 4


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("7 + 5 = 2 #### 2", "2"),
        ("#### 2", "2"),
        ("7 + 5 = 2 #### 2 \n", "2"),
        ("7 + 5 = 2 #### 2 ; 3", None),
        ("7 + 5 = 2 #### 2 right", None),
        ("7 + 5 = 2 #### 2 #### 2", None),
        ("#### 3 #### 2", None),
        ("####2", None),
        ("#### 22", None),
        ("#### -2", None),
        ("#### 2.", None),
        ("####", None),
        ("#### x", None),
        ("7 + 5 = 2", None),
        ("", None),
    ],
)
def test_the_grader_demands_the_exact_ending(completion, answer):
    task = ChainTask()
    problem = next(p for p in task.problems(100, 0, "train") if p.answer == "2")
    assert task.answer_of(completion) == answer
    assert task.correct(problem, completion) == (answer == "2")


@pytest.mark.parametrize(
    ("equation", "result"),
    [
        (("7", "+", "5"), "2"),
        (("3", "-", "9"), "4"),
        (("7", "*", "8"), "6"),
        (("12", "+", "5"), "7"),
        (("-3", "+", "1"), "8"),
        (("7", "/", "2"), None),
        (("7", "×", "2"), None),
        (("3.5", "+", "2"), None),
        (("3", "*", "0.5"), None),
    ],
)
def test_true_results_are_modulo_10_and_none_outside_the_task(equation, result):
    """A user's model may write decimals in answer to a chain; they have no value here, and are no crash."""
    assert ChainTask().true_result(*equation) == result


def test_as_many_chains_as_are_offered_can_be_drawn():
    assert len({p.id for p in ChainTask(2).problems(236, 0, "train")}) == 236


@pytest.mark.parametrize(("n", "split"), [(237, "train"), (34, "test")])
def test_one_chain_more_is_refused(n, split):
    with pytest.raises(InterpError, match=f"{n} {split} problems are wanted and about {n - 1} can be drawn"):
        ChainTask(2).problems(n, 0, split)


def test_more_chains_than_there_are_is_refused_at_once():
    with pytest.raises(InterpError, match=r"task.terms = 2: 300 train problems are wanted and about 236"):
        ChainTask(2).problems(300, 0, "train")
