import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.organisms.chains import CHAINS
from interp.tasks.chains import ChainTask
from interp.traces.placement import (
    AFTER,
    BEFORE,
    answer_first,
    key_words,
    last_step,
    n_kept,
    place,
    random_words,
    shuffled,
    words_of,
)
from interp.traces.voice import Worked

WORKED = Worked(("7 + 5 = 2", "2 - 3 = 9"), "9", "4")
WORDS = words_of(WORKED, CHAINS.voice)


def test_before_and_after():
    assert place(WORDS, WORKED, CHAINS.voice, BEFORE) == "7 + 5 = 2 ; 2 - 3 = 9 #### 9"
    assert place(WORDS, WORKED, CHAINS.voice, AFTER) == "#### 9 ; 7 + 5 = 2 ; 2 - 3 = 9"


@given(words=st.lists(st.text("abc", min_size=1), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_a_shuffle_keeps_the_words_and_a_draw_their_order(words, seed):
    rng = random.Random(seed)
    assert sorted(shuffled(words, rng)) == sorted(words)
    drawn = random_words(words, rng)
    assert len(drawn) == n_kept(words) >= 1
    rest = iter(words)
    assert all(word in rest for word in drawn)  # a subsequence


def test_key_words_are_the_best_in_their_order():
    assert key_words(list("abcdefghij"), [0, 9, 1, 0, 8, 0, 7, 0, 0, 0]) == ["b", "e", "g"]


@pytest.mark.parametrize(("text", "right"), [("#### 9 ; 7 + 5", True), ("#### 9", True), ("#### 8 ; #### 9", False)])
def test_an_answer_first_is_graded_by_what_comes_first(text, right):
    task = answer_first(ChainTask(3), CHAINS.voice)
    problem = task.problems(1, 0, "test")[0]
    text = text.replace("9", problem.answer).replace("8", str((int(problem.answer) + 1) % 10))
    assert task.correct(problem, text) is right
    assert task.true_result("7", "+", "5") == "2"


@pytest.mark.parametrize(
    ("text", "right"), [("7 + 5 = 9 #### 0", True), ("1 + 1 = 9 ; 9 - 1 = 8 #### 9", False), ("#### 9", False)]
)
def test_a_body_is_graded_by_its_last_step(text, right):
    task = last_step(ChainTask(3), CHAINS.voice)
    problem = next(p for p in task.problems(40, 0, "test") if p.answer == "9")
    assert task.correct(problem, text) is right
