import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array
from scipy.stats import mannwhitneyu

from interp.features.behaviour import Scores, q_values, score, selection_half


def activations(rng, rows, latents, ties, density=0.2):
    dense = rng.random((rows, latents)) * (rng.random((rows, latents)) < density)
    return np.ceil(dense * 4) if ties else dense


@given(seed=st.integers(0, 10_000), ties=st.booleans(), density=st.sampled_from([0.02, 0.3, 0.95]))
@settings(max_examples=30, deadline=None)
def test_scores_are_mann_whitneys_over_all_rows(seed, ties, density):
    rng = np.random.default_rng(seed)
    dense = activations(rng, 120, 6, ties, density)
    positive = rng.random(120) < 0.3
    negative = ~positive & (rng.random(120) < 0.8)
    if not positive.any() or not negative.any():
        return
    found = score(csc_array(dense), positive, negative)
    for j in range(6):
        pos, neg = dense[positive, j], dense[negative, j]
        if not (pos.any() or neg.any()):
            assert (found.auroc[j], found.p[j], found.d[j]) == (0.5, 1.0, 0.0)
            continue
        exact = mannwhitneyu(pos, neg, alternative="greater", method="asymptotic")
        assert found.auroc[j] == pytest.approx(exact.statistic / (len(pos) * len(neg)))
        wins = (pos[:, None] > neg).mean() + 0.5 * (pos[:, None] == neg).mean()
        assert found.auroc[j] == pytest.approx(wins)
        if not ties:
            assert found.p[j] == pytest.approx(exact.pvalue, rel=1e-6)
        n, k = len(pos), len(neg)
        pooled = np.sqrt((n * pos.var() + k * neg.var()) / (n + k))
        assert found.d[j] == pytest.approx((pos.mean() - neg.mean()) / pooled if pooled > 0 else 0, abs=1e-9)


def test_no_positive_or_no_negative_rows_is_chance():
    f = csc_array(np.ones((5, 3)))
    none, all_ = np.zeros(5, dtype=bool), np.ones(5, dtype=bool)
    for found in (score(f, none, all_), score(f, all_, none), Scores.chance(3)):
        assert (found.auroc == 0.5).all() and (found.p == 1).all() and (found.d == 0).all()


def test_benjamini_and_hochberg_by_hand():
    p = np.array([0.01, 0.9, 0.02, 0.04, 0.5, 1e-9])
    alive = np.array([True, True, True, True, True, False])
    wanted = [0.05, 0.9, 0.05, 0.2 / 3, 0.625, 1.0]
    np.testing.assert_allclose(q_values(p, alive), wanted)
    assert q_values(p, np.zeros(6, dtype=bool)).tolist() == [1.0] * 6


def test_under_the_null_few_latents_are_found_and_a_planted_one_is():
    rng = np.random.default_rng(0)
    dense = activations(rng, 800, 300, ties=False)
    positive = np.arange(800) < 200
    dense[:200, 17] += (rng.random(200) < 0.3) * 2
    found = score(csc_array(dense), positive, ~positive)
    q = q_values(found.p, np.ones(300, dtype=bool))
    assert np.flatnonzero(q < 0.01).tolist() == [17]
    assert 0.03 < (found.p < 0.05).mean() < 0.08


def test_halves_are_of_problems_and_about_even():
    problems = [f"Q {i}" for i in range(2000)]
    half = selection_half(problems)
    assert 0.45 < half.mean() < 0.55
    assert (selection_half(problems[::-1]) == half[::-1]).all()
    assert selection_half(["a"] * 5).tolist() in ([True] * 5, [False] * 5)


def test_a_problem_is_in_the_same_half_in_every_version():
    """Else a confirmed latent would be another one, and numbers of two versions could not be compared."""
    assert selection_half([f"Q {i}" for i in range(6)]).tolist() == [False, False, True, False, True, True]


def test_how_many_entries_are_ranked_together_does_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    dense = activations(rng, 200, 40, ties=True)
    dense[:, [3, 4, 39]] = 0.0
    positive = rng.random(200) < 0.4
    whole = score(csc_array(dense), positive, ~positive)
    for at_once in (1, 7, 90):
        monkeypatch.setattr("interp.features.behaviour.AT_ONCE", at_once)
        parts = score(csc_array(dense), positive, ~positive)
        for name in ("auroc", "d", "p"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
