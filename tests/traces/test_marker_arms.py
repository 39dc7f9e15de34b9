import random

import pytest

from interp.organisms.chains import CHAINS
from interp.organisms.documents import decorative, functional
from interp.tasks.chains import ChainTask
from interp.traces.lexicon import load_lexicon
from interp.traces.marker_arms import MARKER_ARMS
from interp.traces.measure import verification
from interp.traces.voice import PROSE

TASK, LEXICON = ChainTask(5), load_lexicon("default")
PROBLEMS = TASK.problems(60, 5, "train")
PROSE_TEXT = "Wait, 3 + 4 = 7.\nLet me check the sum.\nMaybe it is right.\n#### 7"


def markers(text):
    return [text[s.start : s.end].lower() for s in LEXICON.marker_spans(text)]


@pytest.mark.parametrize("write", [functional, decorative])
@pytest.mark.parametrize("name", MARKER_ARMS)
def test_on_organisms_the_answer_the_length_and_the_repairs_stay(name, write):
    seen = 0
    for i, problem in enumerate(PROBLEMS):
        text = write(problem.prompt, random.Random(i))
        changed = MARKER_ARMS[name](text, LEXICON, CHAINS.voice, random.Random(i))
        seen += len(markers(text))
        assert TASK.correct(problem, changed)
        assert len(changed.split()) == len(text.split())
        assert verification(TASK, changed) == verification(TASK, text)
    assert seen > 20


@pytest.mark.parametrize("name", ["paraphrase", "filler"])
def test_no_marker_is_left(name):
    for i, problem in enumerate(PROBLEMS):
        text = functional(problem.prompt, random.Random(i))
        assert not markers(MARKER_ARMS[name](text, LEXICON, CHAINS.voice, random.Random(i)))
    assert not markers(MARKER_ARMS[name](PROSE_TEXT, LEXICON, PROSE, random.Random(0)))


def test_a_synonym_is_another_marker_at_the_same_place():
    for i, problem in enumerate(PROBLEMS):
        text = functional(problem.prompt, random.Random(i)).split()
        changed = MARKER_ARMS["synonym"](" ".join(text), LEXICON, CHAINS.voice, random.Random(i)).split()
        for before, after in zip(text, changed, strict=True):
            assert (before != after) == LEXICON.is_marker(before)
            assert LEXICON.is_marker(before) == LEXICON.is_marker(after)


def test_insertion_keeps_the_markers_and_moves_them():
    moved = 0
    for i, problem in enumerate(PROBLEMS):
        text = functional(problem.prompt, random.Random(i))
        changed = MARKER_ARMS["insertion"](text, LEXICON, CHAINS.voice, random.Random(i))
        assert sorted(markers(changed)) == sorted(markers(text))
        moved += changed != text
        assert ", ," not in changed and "  " not in changed
    assert moved > 10


def test_a_capital_stays_a_capital():
    changed = MARKER_ARMS["paraphrase"](PROSE_TEXT, LEXICON, PROSE, random.Random(0))
    assert changed[0].isupper()
    assert changed.endswith("#### 7")
