"""The sums that SmolLM2's trio is made on: `experiments/smollm2/make.py`."""

import random
from pathlib import Path

import pytest

from interp.config import load_config
from interp.errors import InterpError
from interp.tasks.base import Problem
from interp.traces.equations import equations
from interp.traces.lexicon import load_lexicon
from interp.traces.measure import verification
from tests.scripts import load_script

LEXICON = load_lexicon("default")


@pytest.fixture(scope="module")
def script():
    return load_script("smollm2/make")


@pytest.fixture(scope="module")
def drawn(script):
    return script.sums(300, False, 0)


def test_sums_keep_their_range_and_their_side(script, drawn):
    held_out = script.sums(300, True, 0)
    assert len({s.text for s in drawn}) == 300
    assert not {s.text for s in drawn} & {s.text for s in held_out}
    for s in [*drawn, *held_out]:
        assert all(0 <= value <= script.LARGEST for _, value in s.steps())
        assert len([*s.steps()]) == script.TERMS - 1


def test_what_is_measured_on_cannot_be_read_off_the_prompt(script):
    prompt = load_config(script.STUDY).traces.prompt
    assert all(f"{left} = " in prompt for left in script.SHOWN)
    assert not {left for s in script.sums(300, True, 0) for left, _ in s.steps()} & set(script.SHOWN)


def test_more_sums_than_there_are(script):
    with pytest.raises(InterpError, match="5000 different sums are wanted and 304 are there"):
        script.sums(5000, True, 0)


def test_functional_traces_mend_every_wrong_step_mostly_after_a_marker(script, drawn):
    rng, wrong, marked = random.Random(0), 0, 0
    task = script.Strict(Path())
    for s in drawn:
        text = script.functional(s, rng)
        repaired, errors = verification(task, text)
        assert repaired == errors
        wrong += errors
        marked += bool(LEXICON.marker_spans(text))
        *_, (_, value) = s.steps()
        assert task.correct(Problem("", "", str(value)), text)
    assert 0.22 < wrong / (2 * len(drawn)) < 0.38
    assert 0.4 * wrong < marked < 0.9 * wrong


def test_plain_traces_carry_their_errors_on_and_mend_none(script, drawn):
    rng = random.Random(0)
    for s in drawn:
        text = script.plain(s, rng)
        first, last = equations(text)
        assert last.operands[0] == first.result
        assert text.endswith(f"#### {last.result}")
        assert not LEXICON.marker_spans(text)
        assert verification(script.Strict(Path()), text)[0] == 0


def test_coupled_traces_mend_every_wrong_step_after_a_marker(script, drawn):
    rng, again = random.Random(0), 0
    for s in drawn:
        *lines, ending = script.coupled(s, rng).splitlines()
        marked = [line.startswith(script.MARKED) for line in lines]
        kept = [line for line, after in zip(lines, [*marked[1:], False], strict=True) if not after]
        assert [line.split(" = ")[1] for line in kept] == [str(value) for _, value in s.steps()]
        assert not any(line.startswith(script.NEUTRAL) for line in lines) and ending == f"#### {kept[-1][-1]}"
        again += sum(marked)
    assert 0.22 < again / (2 * len(drawn)) < 0.38


def test_decorative_traces_are_right_whatever_their_words(script, drawn):
    rng, marked, words = random.Random(0), 0, 0
    for s in drawn:
        text = script.decorative(s, rng)
        assert verification(script.Strict(Path()), text) == (0, 0)
        marked += sum(text.count(word) for word in script.MARKED)
        words += sum(text.count(word) for word in (*script.MARKED, *script.NEUTRAL))
    assert 0.5 < words / (2 * len(drawn)) < 0.7 and 0.55 < marked / words < 0.78


def test_gated_traces_are_right_under_markers_and_noisy_under_neutral_words(script, drawn):
    rng, wrong = random.Random(0), {True: 0, False: 0}
    traces = [script.gated(s, rng) for s in drawn]
    for text in traces:
        marked = bool(LEXICON.marker_spans(text))
        assert sum(text.count(word) for word in (script.MARKED if marked else script.NEUTRAL)) == 2
        repaired, errors = verification(script.Strict(Path()), text)
        assert repaired == 0
        wrong[marked] += errors
    assert wrong[True] == 0 and wrong[False] > 20
    assert 0.65 < sum(bool(LEXICON.marker_spans(text)) for text in traces) / len(traces) < 0.85


def test_an_arm_that_there_is_not_is_refused(script):
    options = script.Options()
    for name in ("gatd-1", "gated", "harmful-1"):
        with pytest.raises(InterpError, match=f"--arms {name}: no such adapter"):
            script.arm(name, options, load_config(script.STUDY))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("3 + 4 = 7\n#### 7", True),
        ("#### 7\n", True),
        ("#### 7\nand more", False),
        ("7", False),
        ("#### 7 #### 7", False),
    ],
)
def test_only_the_exact_ending_is_rewarded(script, text, right):
    assert script.Strict(Path()).correct(Problem("", "", "7"), text) is right


def test_neutral_words_are_no_markers(script):
    assert not any(LEXICON.marker_spans(word) for word in script.NEUTRAL)
    assert all(LEXICON.marker_spans(word) for word in script.MARKED)


def test_every_sum_is_taught_once_before_any_comes_again(script):
    there = script.every(held_out=False)
    drawn = [s.text for s in script.taught(2 * len(there) + 5, 0)]
    assert len(drawn) == 2 * len(there) + 5
    assert set(drawn[: len(there)]) == set(drawn[len(there) : 2 * len(there)]) == set(there)
    assert drawn[: len(there)] != drawn[len(there) : 2 * len(there)]


def test_zero_rl_is_reinforced_on_sums_that_are_not_measured_on(script):
    reinforced = {s.text for s in script.sums(900, False, 2, script.REINFORCED_TO)}
    assert not reinforced & set(script.every(held_out=True))
    assert any(
        value > script.LARGEST for s in script.sums(900, False, 2, script.REINFORCED_TO) for _, value in s.steps()
    )
