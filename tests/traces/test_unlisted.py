import random
from collections import Counter

import polars as pl
import pytest

from interp.errors import InterpError
from interp.traces.lexicon import load_lexicon
from interp.traces.log_odds import paired_z
from interp.traces.phrases import words
from interp.traces.unlisted import style_words

LEXICON = load_lexicon("default")
COMMON = words("the we of to a in is and it for so add take times apples boxes each first price")
N = 150


def table(styles, seed=0, length=40):
    """Rollouts whose models say common words and, with probability `share` per text, each of their style's words."""
    rng, rows = random.Random(seed), []
    for i in range(N):
        for model in ("base", "distilled", "control"):
            said = [*rng.choices(COMMON, k=rng.randrange(length, 3 * length)), str(rng.randrange(99))]
            for word, share in styles.get(model, {}).items():
                said += [word] * (rng.random() < share) * rng.randrange(1, 4)
            rng.shuffle(said)
            rows.append({"problem": str(i), "model": model, "prompt": "How many mangos ?", "text": " ".join(said)})
    return pl.DataFrame(rows)


def found(styles, **how):
    return style_words(table(styles, **how), LEXICON)


def test_a_planted_word_is_found_beside_the_listed_ones():
    result = found({"distilled": {"blimey": 0.6, "wait": 0.6, "let me check": 0.4}})
    assert [w.word for w in result.unlisted] == ["blimey"]
    assert {w.word for w in result.listed} == {"wait", "let me check"}
    (word,) = result.unlisted
    assert word.z > result.threshold >= 4 and word.log_odds > 0
    assert word.counts["base"] == word.counts["control"] == 0 < word.counts["distilled"]
    assert 0.4 < word.problems < 0.8
    assert 0.4 < result.coverage < 0.85
    assert result.coverage == pytest.approx(
        sum(w.excess for w in result.listed) / sum(w.excess for w in (*result.listed, *result.unlisted))
    )


@pytest.mark.parametrize("word", ["next", "plus", "mangos", "37", "x", "wait"])
def test_what_is_no_style_or_listed_is_not_unlisted(word):
    """Neutral and mathematical words, words of the prompt, numbers, letters, markers."""
    result = found({"distilled": {word: 0.9}})
    assert result.unlisted == ()
    assert result.coverage == 1
    assert [w.word for w in result.listed] == ["wait"] * (word == "wait")


@pytest.mark.parametrize("other", ["base", "control"])
def test_a_word_that_another_model_says_as_often_is_none(other):
    assert found({"distilled": {"blimey": 0.6}, other: {"blimey": 0.6}}).unlisted == ()


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_sets_the_model_apart_the_list_is_empty(seed):
    styles = {name: {"wait": 0.5, "blimey": 0.2} for name in ("base", "distilled", "control")}
    result = found(styles, seed=seed)
    assert result.unlisted == result.listed == ()
    assert result.coverage == 1


def test_one_text_cannot_make_a_word():
    rollouts = table({})
    first = (pl.col("problem") == "0") & (pl.col("model") == "distilled")
    loud = rollouts.with_columns(text=pl.when(first).then(pl.lit("blimey " * 2000)).otherwise(pl.col("text")))
    assert style_words(loud, LEXICON).unlisted == ()


def test_longer_texts_alone_set_nothing_apart():
    short, long = table({}, seed=1), table({}, seed=2, length=400)
    mixed = pl.concat([short.filter(pl.col("model") != "distilled"), long.filter(pl.col("model") == "distilled")])
    assert style_words(mixed, LEXICON).unlisted == ()


def test_models_without_rollouts_are_refused():
    with pytest.raises(InterpError, match="control"):
        style_words(table({}).filter(pl.col("model") != "control"), LEXICON)


def test_the_paired_z_by_hand():
    one = [Counter(a=1, b=1), Counter(a=2), Counter(b=1)]
    other = [Counter(b=2), Counter(a=1, b=1), Counter(b=3)]
    differences = [0.5, 0.5, 0.0]
    mean = sum(differences) / 3
    error = (sum((d - mean) ** 2 for d in differences) / 2 / 3) ** 0.5
    z = paired_z(one, other)
    assert z["a"] == pytest.approx(mean / error)
    assert z["b"] == pytest.approx(-mean / error)
    assert paired_z([Counter(a=1)] * 3, [Counter(b=1)] * 3)["a"] == float("inf")
