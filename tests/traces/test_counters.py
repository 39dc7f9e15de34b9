import random

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from interp.names import BEHAVIOURS, REFLECTION, VERIFICATION
from interp.organisms.documents import functional
from interp.statistics import Interval, Refused
from interp.tasks.chains import ChainTask
from interp.traces.counters import agreement, compare_counters, counts_by_construction, counts_by_rule, kappa
from interp.traces.lexicon import load_lexicon

LEXICON = load_lexicon("default")
PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def test_counts_by_hand():
    text = "3 + 4 = 8. Hmm. Again 3 + 4 = 7. Let me check."
    assert counts_by_rule(text, LEXICON, recomputed=True) == {REFLECTION: 1, VERIFICATION: 2}
    assert counts_by_rule(text, LEXICON, recomputed=False) == {REFLECTION: 1, VERIFICATION: 1}
    assert counts_by_construction(text) == {REFLECTION: 1, VERIFICATION: 1}
    assert counts_by_construction("Hmm, let me check.") == {REFLECTION: 0, VERIFICATION: 0}


def test_beside_the_construction_the_rule_knows_nothing_of_equations():
    """With neutral words the work goes on and the rule is silent: the two counters share no source."""
    text = "3 + 4 = 8 , next , 3 + 4 = 7 ; 7 - 2 = 5"
    assert counts_by_construction(text) == dict.fromkeys(BEHAVIOURS, 1)
    assert counts_by_rule(text, LEXICON, recomputed=False) == dict.fromkeys(BEHAVIOURS, 0)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_kappa_is_scikit_learns(pairs):
    a, b = np.array(pairs).T
    assume(not (a.all() and b.all()) and (a.any() or b.any()))
    cells = [np.array([x.sum()], dtype=float) for x in (a & b, a & ~b, ~a & b, ~a & ~b)]
    assert kappa(*cells)[0] == pytest.approx(cohen_kappa_score(a, b))


def test_the_agreement_of_planted_counters_is_found():
    """The second counter repeats the first, and for two fifths of the rollouts says what chance says: kappa is .6."""
    rng = np.random.default_rng(0)
    one = rng.random(1500) < 0.5
    two = np.where(rng.random(1500) < 0.4, rng.random(1500) < 0.5, one)
    found = agreement([str(i) for i in range(1500)], one.astype(int), 3 * two.astype(int))
    assert isinstance(found, Interval)
    assert found.low < 0.6 < found.high and 0.05 < found.high - found.low < 0.12
    assert found.estimate == pytest.approx(cohen_kappa_score(one, two))
    alike = agreement([str(i) for i in range(1500)], one.astype(int), one.astype(int))
    assert isinstance(alike, Interval)
    assert (alike.estimate, alike.low, alike.high) == (1, 1, 1)


def test_rollouts_of_one_problem_are_resampled_together():
    rng = np.random.default_rng(1)
    one, two = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    alone = agreement([str(i) for i in range(60)], one, two)
    repeated = agreement([str(i) for i in range(60)] * 8, np.tile(one, 8), np.tile(two, 8))
    assert isinstance(alone, Interval) and isinstance(repeated, Interval)
    assert repeated.estimate == pytest.approx(alone.estimate)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high), abs=1e-6)


@pytest.mark.parametrize(
    ("one", "two", "who"),
    [([1, 1, 2], [0, 1, 0], "first"), ([0, 1, 0], [0, 0, 0], "second"), ([0, 0, 0], [0, 0, 0], "first")],
)
def test_a_constant_counter_is_refused(one, two, who):
    found = agreement(["a", "b", "c"], one, two)
    assert isinstance(found, Refused)
    assert who in found.refused


def test_counts_stand_beside_their_agreement_and_unread_rollouts_are_said():
    rng = random.Random(0)
    problems = ChainTask().problems(200, 0, "train")
    texts = [functional(p.prompt, rng) for p in problems]
    table = pl.DataFrame({"problem": [p.id for p in problems] * 2, "model": ["base"] * 200 + ["distilled"] * 200})
    rule = [{REFLECTION: 0, VERIFICATION: 0}] * 200 + [counts_by_rule(t, LEXICON, recomputed=False) for t in texts]
    built = [None] * 10 + [counts_by_construction(t) for t in texts[10:]] + [counts_by_construction(t) for t in texts]
    rows = compare_counters(table, rule, built, ("rule", "construction"))
    assert [(r["model"], r["behaviour"], r["n"], r["left_out"]) for r in rows] == [
        ("base", REFLECTION, 190, 10),
        ("base", VERIFICATION, 190, 10),
        ("distilled", REFLECTION, 200, 0),
        ("distilled", VERIFICATION, 200, 0),
    ]
    assert "the rule counter says no" in rows[0]["kappa_refused"]
    distilled = rows[2]
    assert distilled["mean_construction"] == pytest.approx(
        np.mean([counts_by_construction(t)[REFLECTION] for t in texts])
    )
    assert distilled["share_rule"] <= distilled["mean_rule"]
    assert 0.2 < distilled["kappa_low"] < distilled["kappa_estimate"] < distilled["kappa_high"] < 0.9


def test_where_nothing_was_read_nothing_is_said():
    table = pl.DataFrame({"problem": ["a"], "model": ["base"]})
    rows = compare_counters(table, [{REFLECTION: 1, VERIFICATION: 0}], [None], ("rule", "judge"))
    assert [(r["n"], r["left_out"], r["mean_rule"]) for r in rows] == [(0, 1, None)] * 2
    assert all("no rollout" in r["kappa_refused"] for r in rows)
