"""The logic on a small module that stands for reasoning-gym; what is only true of the real one is in test_gym_real."""

import random
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from interp.errors import InterpError
from interp.tasks.gym import GymTask, difficulty
from interp.tasks.splits import bucket


@dataclass
class Options:
    low: int = 0
    high: int = 100_000
    seed: int | None = None
    size: int = 500

    def __post_init__(self):
        assert self.high > self.low, "high must be above low"


class Doubles:
    """Like the real ones: entry i of seed s is entry 0 of seed s + i, and a mention has part of the marks."""

    def __init__(self, config):
        self.config = config

    def __getitem__(self, i):
        number = random.Random(self.config.seed + i).randint(self.config.low, self.config.high)
        metadata = {"number": number, "digits": len(str(number)), "difficulty": {"bounds": (0, 9), "digits": (1, 5)}}
        return {"question": f"Twice {number}?", "answer": self.say(2 * number), "metadata": metadata}

    def say(self, number):
        return str(number)

    def score_answer(self, answer, entry):
        return 1.0 if answer == entry["answer"] else 0.5 * (entry["answer"] in answer)


class Words(Doubles):
    def say(self, number):
        return f"double {number}"

    def score_answer(self, answer, entry):
        int(answer.split()[-1])  # the real prime_factorization raises like this
        return super().score_answer(answer, entry)


class Credulous(Doubles):
    def score_answer(self, answer, entry):
        return 1.0


class Careless(Doubles):
    def __getitem__(self, i):
        return {**super().__getitem__(i), "question": f"Toss {random.random()}?"}


@pytest.fixture(autouse=True)
def gym(monkeypatch):
    sets = {"doubles": Doubles, "words": Words, "credulous": Credulous, "careless": Careless, "ransom_note": Doubles}
    factory = SimpleNamespace(DATASETS={name: (data_set, Options) for name, data_set in sets.items()})
    monkeypatch.setitem(sys.modules, "reasoning_gym", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", factory)


def refusal(task, n=4):
    with pytest.raises(InterpError) as caught:
        task.problems(n, 0, "test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("high", [300, 100_000])
def test_the_splits_never_meet_even_where_there_are_few_questions(high, seed):
    task = GymTask("doubles", {"high": high})
    train, test = task.problems(100, seed, "train"), task.problems(100, seed + 1, "test")
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    for split in (train, test):
        assert len({p.id for p in split}) == len({p.prompt for p in split}) == 100


def test_half_of_the_questions_are_held_out_by_their_text():
    for split, side in (("test", 0), ("train", 1)):
        problems = GymTask("doubles").problems(20, 0, split)
        assert {bucket(p.prompt, 2) for p in problems} == {side}


def test_a_studys_seed_gives_the_problems_that_it_always_gave():
    assert [p.answer for p in GymTask("doubles").problems(3, 0, "test")] == ["176944", "199272", "142246"]


def test_the_same_seed_gives_the_same_problems_to_another_task_too():
    problems = GymTask("doubles").problems(50, 3, "test")
    assert GymTask("doubles").problems(50, 3, "test") == problems
    assert not {p.id for p in GymTask("doubles").problems(50, 4, "test")} & {p.id for p in problems}


def test_data_sets_that_draw_from_pythons_own_generator_are_repeatable_and_leave_it_alone():
    random.seed(5)
    problems = GymTask("careless").problems(10, 0, "test")
    after = random.random()
    assert GymTask("careless").problems(10, 0, "test") == problems
    random.seed(5)
    assert random.random() == after


def test_only_full_marks_for_the_stated_answer_are_correct():
    task = GymTask("doubles", prompt="{question} Say it.")
    problem = task.problems(1, 0, "test")[0]
    assert problem.prompt.endswith("? Say it.")
    right = problem.answer
    for completion in (
        right,
        f"so it is {right}.",
        f"3 #### {right}",
        f"\\boxed{{{right}}}",
        f"<answer>{right}</answer>",
    ):
        assert task.correct(problem, completion)
    for completion in ("", "none", f"{right} or 7", f"#### it is {right}", f"\\boxed{{7}} {right}", f"{right}0"):
        assert not task.correct(problem, completion)


def test_answers_in_words_are_the_last_line_not_the_last_number():
    task = GymTask("words")
    problem = task.problems(1, 0, "test")[0]
    assert task.answer_of(f"well\nThe answer is {problem.answer}.") == problem.answer
    assert task.correct(problem, f"\\boxed{{\\text{{{problem.answer}}}}}")
    assert not task.correct(problem, problem.answer.split()[-1])


def test_the_options_reach_the_data_set():
    assert all(p.entry["metadata"]["number"] < 500 for p in GymTask("doubles", {"high": 499}).problems(50, 0, "test"))


def test_difficulty_is_the_first_measure_that_the_entry_has_a_whole_number_of():
    for problem in GymTask("doubles").problems(20, 0, "test"):
        assert problem.difficulty == len(str(int(problem.answer) // 2))
    assert difficulty({"metadata": {"difficulty": {"words": (1, 2)}, "words": ["a"]}}) == 0
    assert difficulty({"metadata": {"difficulty": 3}}) == 3
    assert difficulty({"metadata": {"difficulty": 1.0}}) == difficulty({"metadata": {}}) == difficulty({}) == 0


def test_what_is_not_there_suggests_the_nearest():
    assert "task.data_set = dubles: " in (message := refusal(GymTask("dubles")))
    assert "did you mean 'doubles'?" in message
    assert "no option 'hihg'; did you mean 'high'?" in refusal(GymTask("doubles", {"hihg": 3}))
    assert "no option 'seed'" in refusal(GymTask("doubles", {"seed": 3})), "the seed is the study's"


@pytest.mark.parametrize("options", [{"high": -1}, {"high": "many"}])
def test_options_that_the_data_set_refuses(options):
    assert f"task.options = {options}: doubles refuses them: " in refusal(GymTask("doubles", options))


def test_more_problems_than_there_are():
    assert "task.data_set = doubles: 9 test problems are wanted and " in refusal(GymTask("doubles", {"high": 5}), 9)


def test_data_sets_no_study_can_be_made_of(monkeypatch):
    assert "its scorer accepts any text" in refusal(GymTask("credulous"))
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert "set PYTHONHASHSEED=0" in refusal(GymTask("ransom_note"))
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert GymTask("ransom_note").problems(4, 0, "test")


def test_without_reasoning_gym_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    assert "pip install 'interp[gym]'" in refusal(GymTask("doubles"))
