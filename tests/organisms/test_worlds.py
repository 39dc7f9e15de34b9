"""What every world must hold, whatever it is about."""

import random

import pytest

from interp.names import WORLD_NAMES
from interp.organisms.documents import SLIPS, WRONG_STEPS, noisy
from interp.organisms.world import SLIPPING
from interp.organisms.worlds import WORLDS
from interp.tasks import open as open_task
from interp.traces.lexicon import load_lexicon

LEXICON = load_lexicon("default")
each_world = pytest.mark.parametrize("name", WORLDS)


def test_every_name_has_a_world():
    assert tuple(WORLDS) == WORLD_NAMES


@each_world
def test_the_task_is_the_one_that_the_name_opens(name):
    assert open_task(name, terms=4) == WORLDS[name].task(4)


@each_world
def test_a_tenth_of_the_operations_slips_and_noisy_steps_are_wrong_as_often_as_said(name):
    world, rng = WORLDS[name], random.Random(0)
    steps = [world.draw(rng) for _ in range(20_000)]
    every = {step: step.slip for step in steps}
    slips = {step: slip for step, slip in every.items() if slip is not None}
    assert len(slips) == int(SLIPPING * len(every))
    assert all(slip in step.others for step, slip in slips.items())
    assert all(step.result not in step.others and len(set(step.others)) == len(step.others) for step in every)
    results = [(step, noisy(step, rng)) for step in steps]
    assert sum(r != s.result for s, r in results) / len(results) == pytest.approx(WRONG_STEPS, abs=0.01)
    of_slips = [(s, r) for s, r in results if s in slips]
    assert of_slips and all(r in (s.result, s.slip) for s, r in of_slips)
    assert sum(r == s.slip for s, r in of_slips) / len(of_slips) == pytest.approx(SLIPS, abs=0.02)


@each_world
def test_the_words_are_the_lexicons(name):
    world = WORLDS[name]
    assert not set(world.markers) & set(world.neutral)
    assert set(world.neutral) == set(world.voice.neutral) <= set(LEXICON.neutral)
    assert set(world.voice.markers) == set(world.markers)
    for word in (*world.symbols, "grade", "right", "wrong", *world.neutral):
        assert not LEXICON.marker_spans(word)
    assert all(LEXICON.marker_spans(word) for word in world.markers)
