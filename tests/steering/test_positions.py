"""Which tokens a direction is made at, on completions written out."""

import numpy as np
import pytest

from interp.steering.positions import SIDES, Tokens, at_forks

B = "................................bbbmbb.."
"""One behaviour after 32 tokens, with a marker in it."""


def tokens(behaviour=B, forks=()):
    here = np.array([c in "bm" for c in behaviour])
    fork = np.zeros(len(here), dtype=bool)
    fork[list(forks)] = True
    return Tokens(here, np.array([c == "m" for c in behaviour]), fork)


def places(at, side=0, **kinds):
    return SIDES[at](tokens(**kinds))[side].nonzero()[0].tolist()


def test_inside_leaves_markers_out():
    assert places("inside") == [32, 33, 34, 36, 37]


def test_the_onset_is_the_first_token_that_is_no_marker():
    assert places("onset") == [32]
    assert places("onset", behaviour="..mmbb..b.") == [4, 8]


def test_before_is_thirteen_to_eight_tokens_before():
    assert places("before") == [32 - n for n in range(13, 7, -1)]


@pytest.mark.parametrize("at", ["inside", "onset", "before"])
def test_elsewhere_is_more_than_sixteen_tokens_before(at):
    assert places(at, 1) == [*range(16), 38, 39]


def test_forks_are_told_apart_by_what_follows_before_the_next_fork():
    """Of 4 and 5, side by side, the last counts; 29 has the behaviour after it; 34 is inside."""
    forks = (4, 5, 20, 29, 34, 38)
    assert places("forks", forks=forks) == [29]
    assert places("forks", 1, forks=forks) == [5, 20, 38]


def test_a_fork_ends_an_equation_or_a_sentence():
    assert at_forks(["3 + 4 = 7", "3 + 4 =", "", "So it is.", "so"]).tolist() == [True, False, False, True, False]
