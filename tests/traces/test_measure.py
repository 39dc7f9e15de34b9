import numpy as np
import pytest

from interp.names import OUTCOMES
from interp.statistics import Bootstrap, Interval, Refused
from interp.tasks.base import Problem
from interp.tasks.chains import ChainTask
from interp.tasks.file import FileTask
from interp.traces.lexicon import load_lexicon
from interp.traces.measure import Outcomes, measure, revision, verification
from interp.traces.rollouts import Rollout

LEXICON = load_lexicon("default")
CHAIN = ChainTask()


def rollout(text, ids=None, finished=True):
    return Rollout([0], list(range(len(text.split()))) if ids is None else ids, text, finished)


def test_outcomes_by_hand():
    problems = [Problem(str(i), "Q", answer) for i, answer in enumerate("7243")]
    texts = [
        "3 + 4 = 8 , wait , 3 + 4 = 7 #### 7",  # a wrong step repaired, one marker, right
        "3 + 4 = 8 ; 8 + 4 = 1 #### 1",  # two wrong steps, none repaired, wrong
        "next , 3 + 1 = 4 #### 4",  # no wrong step, right
        "",
    ]
    rollouts = [rollout(t) for t in texts]
    rollouts[2:] = rollout(texts[2], [5, 5, 5, 5, 5, 5]), rollout("", finished=False)
    found = measure(CHAIN, LEXICON, problems, rollouts)
    assert set(found.parts) == set(OUTCOMES)
    assert found.parts["accuracy"][0].tolist() == [1, 0, 1, 0]
    assert found.value("accuracy") == 0.5
    lengths = [len(r.completion_ids) for r in rollouts]
    assert found.value("length") == sum(lengths) / 4
    assert found.value("marker_density") == pytest.approx(100 * 1 / sum(lengths))
    assert found.parts["verification_rate"][0].tolist() == [1, 0, 0, 0]
    assert found.parts["verification_rate"][1].tolist() == [1, 2, 0, 0]
    assert found.value("verification_rate") == pytest.approx(1 / 3)
    assert found.value("repetition") == pytest.approx((2 / 3) / 4)
    assert found.parts["redone"][0].tolist() == [1, 0, 0, 0]
    assert found.value("redone") == 1 / 4
    assert [part.tolist() for part in found.parts["revised"]] == [[1, 0, 0, 0]] * 2
    assert found.value("finished") == 3 / 4


def test_a_completion_on_which_the_grader_raises_counts_as_wrong():
    class Fragile(ChainTask):
        def correct(self, problem, completion):
            return {"#### 7": True, "#### 8": False}[completion]

    problems = [Problem(str(i), "Q", "7") for i in range(3)]
    found = measure(Fragile(), LEXICON, problems, [rollout(t) for t in ("#### 7", "odd", "#### 8")])
    assert found.parts["accuracy"][0].tolist() == [1, 0, 0]
    assert found.value("accuracy") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("3 + 4 = 7", (0, 0)),
        ("3 + 4 = 8", (0, 1)),
        ("3 + 4 = 8 , wait , 3 + 4 = 7", (1, 1)),
        ("3 + 4 = 8 then 3 + 4 = 7", (1, 1)),
        ("3 + 4 = 8 , wait , 3 + 4 = 9", (0, 1)),
        ("3 + 4 = 7 , wait , 3 + 4 = 7", (0, 0)),
        ("3 + 4 = 7 , wait , 3 + 4 = 8", (0, 0)),
        ("3 + 4 = 8 ; 1 + 1 = 2 ; 3 + 4 = 7", (0, 1)),
        ("3 + 4 = 8 , 3 + 4 = 7 ; 7 * 2 = 5 , 7 * 2 = 4 ; 4 + 0 = 5", (2, 3)),
        ("3 / 4 = 9", (0, 0)),
        ("no equation", (0, 0)),
    ],
)
def test_wrong_steps_and_their_repair(text, counts):
    assert verification(CHAIN, text) == counts


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("3 + 4 = 8 , wait , 3 + 4 = 7", (1, 1)),
        ("3 + 4 = 7 , wait , 3 + 4 = 7.0", (0, 1)),
        ("3 + 4 = 8 , 3 + 4 = 7 , 3 + 4 = 7", (1, 2)),
        ("1 / 4 = 1,000. Wait. 1 / 4 = 1000.", (0, 1)),
        ("The ball is in the hall. Wait. The ball is in the Hall.", (0, 1)),
        ("The ball is in the hall. Wait. The ball is in the barn.", (1, 1)),
        ("The cost of it is 5. Wait. The cost of it is five.", (1, 1)),
        ("no step", (0, 0)),
    ],
)
def test_steps_worked_again_and_revised(text, counts):
    assert revision(text, LEXICON) == counts


def test_longer_equations_have_no_truth_and_notation_does_not_matter():
    assert verification(CHAIN, "3 + 4 + 5 = 8 and (3 + 4) * 2 = 1") == (0, 0)
    assert verification(CHAIN, r"$3 \times 4 = 8$ , wait , 3 times 4 is **2**") == (1, 1)


def test_a_models_decimals_in_a_chain_are_no_crash():
    assert verification(CHAIN, "3.5 + 2 = 5.5") == (0, 0)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("0.5 + 0.25 = 0.75", (0, 0)),
        ("6 / 4 = 1.5", (0, 0)),
        ("2 + 2 = 4.0", (0, 0)),
        ("0.5 + 0.25 = 0.8", (0, 1)),
        ("0.5 + 0.25 = 0.8 wait 0.5 + 0.25 = 0.750", (1, 1)),
        ("12 + 30 = 42", (0, 0)),
        ("2 + 3 + 4 = 9", (0, 0)),
    ],
)
def test_ordinary_arithmetic_compares_numbers_not_their_spelling(text, counts):
    assert verification(FileTask("none"), text) == counts


def outcomes(top, bottom=None):
    top = np.asarray(top, dtype=float)
    bottom = np.ones(len(top)) if bottom is None else np.asarray(bottom, dtype=float)
    return Outcomes(dict.fromkeys(OUTCOMES, (top, bottom)))


def test_the_first_problems():
    found = outcomes([1, 0, 1, 1], [2, 2, 4, 0]).head(2)
    assert len(found) == 2
    assert found.value("length") == 0.25
    assert np.isnan(outcomes([0], [0]).value("length"))


def test_changes_are_paired_by_problem():
    """Two runs that differ by the same amount on every problem: no doubt is left, whatever the problems vary."""
    rng = np.random.default_rng(0)
    before, bootstrap = rng.normal(50, 30, 200), Bootstrap(200, 2000, 0)
    change = outcomes(before + 2).change_from(outcomes(before), "length", bootstrap)
    assert isinstance(change, Interval)
    assert (change.estimate, change.low, change.high) == pytest.approx((2, 2, 2), abs=1e-3)
    shuffled = outcomes(rng.permutation(before) + 2).change_from(outcomes(before), "length", bootstrap)
    assert isinstance(shuffled, Interval)
    assert shuffled.high - shuffled.low > 5


def test_changes_of_ratios_are_paired_too():
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 80, 200).astype(float)
    markers, bootstrap = np.round(tokens * 0.1), Bootstrap(200, 2000, 0)
    one, two = outcomes(markers, tokens), outcomes(2 * markers, tokens)
    change = two.change_from(one, "marker_density", bootstrap)
    assert isinstance(change, Interval)
    assert change.estimate == pytest.approx(markers.sum() / tokens.sum())
    assert change.low < change.estimate < change.high
    own = one.interval("marker_density", bootstrap)
    assert isinstance(own, Interval)
    assert (change.low, change.high) == pytest.approx((own.low, own.high), rel=1e-3)
    same = one.change_from(one, "marker_density", bootstrap)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_a_change_of_what_never_occurred_is_refused():
    bootstrap = Bootstrap(3, 100, 0)
    never, once = outcomes([0, 0, 0], [0, 0, 0]), outcomes([0, 1, 0], [0, 1, 0])
    for after, before in ((never, once), (once, never), (never, never)):
        assert isinstance(after.change_from(before, "verification_rate", bootstrap), Refused)
    assert isinstance(never.interval("verification_rate", bootstrap), Refused)


def test_no_change_of_accuracy_is_no_certainty_and_of_length_nothing_is_claimed():
    """None of 96 answers changed: as many as 1 - .025^(1/96) of all problems' may change."""
    bootstrap, same = Bootstrap(96, 200, 0), outcomes(np.arange(96) % 2)
    edge = 1 - 0.025 ** (1 / 96)
    for outcome in ("accuracy", "finished", "repetition"):
        change = same.change_from(same, outcome, bootstrap)
        assert (change.estimate, change.low, change.high) == pytest.approx((0, -edge, edge))
    assert same.change_from(same, "length", bootstrap) == Interval(0.0, 0.0, 0.0)
