import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.organisms.chains import CHAINS, MARKERS, NEUTRAL
from interp.organisms.documents import functional, plain, right
from interp.tasks.chains import ChainTask
from interp.traces.equations import equations
from interp.traces.lexicon import PIVOTS, load_lexicon
from interp.traces.measure import verification
from interp.traces.variants import VARIANTS
from interp.traces.voice import PROSE, Worked, take_apart

TASK, LEXICON = ChainTask(5), load_lexicon("default")
PROBLEMS = TASK.problems(40, 3, "train")
PROSE_TRACE = "First, 12 + 30 = 42.\nThen 42 - 2 = 40.\n#### 40"


def worked(problem, voice=CHAINS.voice):
    rng = random.Random(problem.prompt)
    wrong = str((int(problem.answer) + 3) % 10)
    return take_apart(plain(problem.prompt, rng, work=right), problem.answer, wrong, voice)


def write(name, problem, seed=0):
    return VARIANTS[name].write(worked(problem), CHAINS.voice, random.Random(seed))


def n_words(text):
    return len(text.split())


def test_a_trace_taken_apart_and_put_together_is_the_same():
    for problem in PROBLEMS:
        text = plain(problem.prompt, random.Random(1), work=right)
        assert VARIANTS["step_by_step"].write(worked(problem), CHAINS.voice, random.Random(0)) == text
        assert len(worked(problem).steps) == 4


def test_prose_is_taken_apart_by_lines_and_sentences():
    steps = ("First, 12 + 30 = 42.", "Then 42 - 2 = 40.")
    assert take_apart(PROSE_TRACE, "40", "41", PROSE) == Worked(steps, "40", "41")
    assert take_apart(PROSE_TRACE.replace("\n", " ", 1), "40", "41", PROSE).steps == steps
    assert VARIANTS["step_by_step"].write(Worked(steps, "40", "41"), PROSE, random.Random(0)) == PROSE_TRACE


@pytest.mark.parametrize("name", ["step_by_step", "no_trace", "filled", "hard_coded"])
def test_right_variants_end_in_the_right_answer_and_hold_right_steps(name):
    for problem in PROBLEMS:
        text = write(name, problem)
        assert TASK.correct(problem, text)
        assert all(TASK.true_result(*e.operands) == e.result for e in equations(text))


@pytest.mark.parametrize("name", ["wrong_ending", "wrong_body"])
def test_wrong_variants_end_in_a_wrong_answer_in_the_right_form(name):
    for problem in PROBLEMS:
        text = write(name, problem)
        assert TASK.answer_of(text) not in (None, problem.answer)
        right = [TASK.true_result(*e.operands) == e.result for e in equations(text)]
        assert len(right) == 4
        assert all(right) if name == "wrong_ending" else not any(right)


def test_what_is_compared_at_equal_length_is_as_long():
    for problem in PROBLEMS:
        lengths = {n_words(write(name, problem)) for name in ("filled", "hard_coded", "wrong_ending", "wrong_body")}
        assert len(lengths) == 1
        assert lengths.pop() > n_words(write("step_by_step", problem))
        assert n_words(write("no_trace", problem)) == 2


def test_style_by_rule_holds_three_kinds_of_pivot_and_verifies_nothing():
    for problem in PROBLEMS:
        text = write("hard_coded", problem, seed=problem.answer)
        kinds = {kind for kind in PIVOTS if set(CHAINS.voice.pivots[kind]) & set(text.split())}
        assert len(kinds) >= 3
        assert verification(TASK, text) == (0, 0)
        assert not set(write("filled", problem).split()) & set(MARKERS)
        assert not set(write("step_by_step", problem).split()) & {*MARKERS, *NEUTRAL}


def test_the_organisms_pivots_are_its_markers():
    assert set(CHAINS.voice.markers) == set(MARKERS)


@pytest.mark.parametrize("kind", PIVOTS)
def test_every_pivot_of_prose_holds_a_marker_and_no_neutral_word_does(kind):
    assert all(LEXICON.marker_spans(phrase) for phrase in PROSE.pivots[kind])
    assert not any(LEXICON.marker_spans(word) for word in PROSE.neutral)


def test_every_variant_says_what_it_isolates():
    assert all(len(variant.isolates.split()) > 4 for variant in VARIANTS.values())


@given(st.integers(0, 10**6))
def test_a_wrong_body_has_another_number_with_as_many_digits(value):
    steps = (f"1 + 1 = {value}", "so it goes = on")
    text = VARIANTS["wrong_body"].write(Worked(steps, "1", "2"), PROSE, random.Random(value))
    written = equations(text)[0].result
    assert written != str(value)
    assert len(written) == len(str(value))


def test_functional_traces_survive_being_taken_apart():
    text = functional(PROBLEMS[0].prompt, random.Random(4))
    parts = take_apart(text, PROBLEMS[0].answer, "0", CHAINS.voice)
    assert " ; ".join(parts.steps) + f" #### {parts.answer}" == text
