import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.traces.log_odds import compare, log_odds, word_counts

COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=8)


def test_words_are_counted_within_texts():
    texts = ["Wait, wait: 7", "Let’s see. wait"]
    assert word_counts(texts) == {"wait": 3, "7": 1, "let's": 1, "see": 1}
    assert word_counts(texts, 2) == {"wait wait": 1, "wait 7": 1, "let's see": 1, "see wait": 1}


def test_a_case_by_hand():
    """y_i = (8, 2), y_j = (3, 17), pooled (11, 19) of 30 scaled to 6 words: α = (2.2, 3.8)."""
    table = compare({"i": Counter(a=8, b=2), "j": Counter(a=3, b=17)}, "i", "j", prior_total=6)
    delta = math.log((8 + 2.2) / (10 + 6 - 8 - 2.2)) - math.log((3 + 2.2) / (20 + 6 - 3 - 2.2))
    z = delta / math.sqrt(1 / (8 + 2.2) + 1 / (3 + 2.2))
    a, b = table.to_dicts()
    assert a == {
        "word": "a",
        "count": 8,
        "count_other": 3,
        "log_odds": pytest.approx(delta),
        "z": pytest.approx(z),
        "more_in": "i",
    }
    assert (b["word"], b["more_in"], b["log_odds"]) == ("b", "j", pytest.approx(-delta)), "of two words, one's odds"
    assert delta == pytest.approx(1.9508, abs=1e-4)


def test_a_third_models_words_are_in_the_prior():
    """Pooled (16, 24, 10) of 50 scaled to 5 words: α = (1.6, 2.4, 1)."""
    counts = {"i": Counter(a=8, b=2), "j": Counter(a=3, b=17), "k": Counter(a=5, b=5, c=10)}
    found = compare(counts, "i", "j", prior_total=5).row(0, named=True)
    delta = math.log((8 + 1.6) / (10 + 5 - 8 - 1.6)) - math.log((3 + 1.6) / (20 + 5 - 3 - 1.6))
    assert (found["word"], found["log_odds"]) == ("a", pytest.approx(delta))


def test_words_that_neither_model_says_are_left_out():
    counts = {"i": Counter(a=5, b=5), "j": Counter(a=5, b=5), "k": Counter(c=80)}
    table = compare(counts, "i", "j", prior_total=100)
    assert table["word"].to_list() == ["a", "b"]
    assert table["log_odds"].to_list() == [0, 0]
    assert table["more_in"].to_list() == [None, None]


@given(COUNTS)
@settings(max_examples=100, deadline=None)
def test_turned_round_the_sign_turns(rows):
    one, other, prior = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    delta, z = log_odds(one, other, prior)
    assert np.allclose(log_odds(other, one, prior), (-delta, -z))
    assert np.all(np.sign(delta) == np.sign(z)) and np.all(np.isfinite(z))
    assert np.allclose(log_odds(one, one, prior), 0)


@given(COUNTS)
@settings(max_examples=50, deadline=None)
def test_a_stronger_prior_draws_a_words_odds_towards_those_of_the_pool(rows):
    one, other, prior = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assert np.allclose(log_odds(one, other, prior * 1e9)[0], 0, atol=1e-5)


def test_a_planted_word_leads_and_rare_or_common_ones_do_not():
    rng = random.Random(0)
    common = ["the", "is", "so", "of", "and"]

    def text(rate):
        return " ".join("wait" if rng.random() < rate else rng.choice(common) for _ in range(50))

    counts = {
        "distilled": word_counts(text(0.03) for _ in range(200)),
        "base": word_counts(text(0.01) for _ in range(200)),
    }
    counts["distilled"]["once"] = 1
    table = compare(counts, "distilled", "base")
    top = table.row(0, named=True)
    assert (top["word"], top["more_in"]) == ("wait", "distilled")
    assert top["z"] > 5
    assert table["z"].is_sorted(descending=True)
    assert all(abs(z) < 4 for word, z in zip(table["word"], table["z"], strict=True) if word != "wait")
    back = compare(counts, "base", "distilled")
    assert back.row(-1, named=True)["word"] == "wait" and back.row(-1, named=True)["more_in"] == "distilled"


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InterpError, match="'zero_rl'"):
        compare({"base": Counter(a=1, b=1)}, "base", "zero_rl")
    with pytest.raises(InterpError, match="itself"):
        compare({"base": Counter(a=1, b=1)}, "base", "base")
    with pytest.raises(InterpError, match="more than 0"):
        compare({"base": Counter(a=1, b=1), "distilled": Counter(a=1)}, "base", "distilled", prior_total=0)
    for counts in (Counter(), Counter(a=3)):
        with pytest.raises(InterpError, match="fewer than two"):
            compare({"base": counts, "distilled": counts, "control": Counter(b=1)}, "base", "distilled")
