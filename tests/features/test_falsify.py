"""Reverse controls: what is put in where, what is read, and what a latent is called for it."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import byte_tokenizer

from interp.activations.texts import Text
from interp.features.falsify import AS_HARD, answers, inject, kind_of, places_of, top_tokens
from interp.features.paraphrase import marker_ids, paraphrases
from interp.names import GENUINE, LATENT_KINDS, OF_MARKERS, OF_TOKENS, UNSPECIFIC
from interp.organisms.chains import NEUTRAL
from interp.organisms.kinds import KINDS
from interp.tasks.chains import ChainTask
from interp.traces.labels import token_offsets
from interp.traces.lexicon import load_lexicon
from interp.traces.segment import by_construction
from interp.traces.tokens import decode, encode

LEXICON = load_lexicon("default")


def test_top_tokens_carry_most_of_the_activation():
    tokens, values = np.array([5, 6, 5, 7, 8, 6]), np.array([1.0, 5.0, 1.0, 3.0, 0.1, 0.5])
    assert top_tokens(tokens, values) == [6, 7, 5]
    assert top_tokens(tokens[:1], values[:1]) == [5]


def texts_of(*lengths, begin=4):
    prompts = ([7], [8] * 4)
    return [Text(list(range(100, 100 + n)), "distilled", str(n), begin, prompts, 5) for n in lengths]


def test_phrases_are_put_into_the_completion_of_each_text_in_turn():
    texts = texts_of(6, 9, 30, 6, 12) * 20
    places = places_of(texts, np.random.default_rng(0))
    assert all(text.completion_start < place < len(text.ids) for text, place in zip(texts, places, strict=True))
    assert len(set(places)) > 10 and places == places_of(texts, np.random.default_rng(0))
    phrases = [[1], [2, 3], [4]]
    injected, ends = inject(texts, phrases, places)
    assert len(injected) == len(ends) == len(texts)
    for i, (text, new, place, (end,)) in enumerate(zip(texts, injected, places, ends, strict=True)):
        assert new.ids[place : end + 1] == phrases[i % 3], "the last of its tokens is read"
        assert new.ids[:place] + new.ids[end + 1 :] == text.ids
        assert (new.model, new.problem, new.completion_start) == (text.model, text.problem, 4)
        assert new.prompts == text.prompts, "each model reads it after its own prompt"
        assert new.fresh == 0, "it is a text that no other holds"


def reads(texts, places):
    """Latent 0 is on at token 1, latent 1 at odd tokens from 100 on, latent 2 at the fifth position, latent 3 at token
    9 where token 3 came before it."""
    found = []
    for text, at in zip(texts, places, strict=True):
        for place in at:
            token, before = text.ids[place], text.ids[:place]
            found.append([token == 1, token >= 100 and token % 2 == 1, place == 4, token == 9 and 3 in before])
    return np.array(found, dtype=float)


def test_every_answer_is_read_where_its_words_are():
    quiet = texts_of(*range(6, 46))
    one, two = Text([5, 5, 3, 9, 9], "distilled", "p", 2), Text([5, 5, 8, 8, 9, 9], "distilled", "p", 2)
    got = answers(quiet, [1, 9, 1], [[6, 1], [6]], [(one, two, [(3, 4), (4, 5)])], reads, seed=0)
    assert list(got.by_token) == [1, 9]
    assert got.by_token[1][0] == 1.0 and got.by_token[9][0] == 0.0
    assert got.at_markers[0] == 0.5, "every second marker ends with token 1"
    assert got.at_others[0] == 0.0 and 0.25 < got.at_others[1] < 0.75 and got.at_places[0] == 0.0
    places = places_of(quiet, np.random.default_rng(0))
    assert got.at_places[1] == pytest.approx(np.mean([text.ids[p] % 2 for text, p in zip(quiet, places, strict=True)]))
    assert got.at_places[2] == 0.0, "the first place behind the completion's first token is the sixth"
    assert got.paraphrased[3] == 0.0, "it was on at both and is on at neither"
    assert np.isnan(got.paraphrased[0]), "it was not on before"
    kept = answers(quiet, [1], [], [(one, one, [(3, 3), (4, 4)])], reads, seed=0)
    assert kept.paraphrased[3] == 1.0 and np.isnan(kept.at_markers).all()
    assert np.isnan(answers(quiet, [1], [], [], reads, seed=0).paraphrased).all()


CASES = [
    ((0.49, 0.0, 0.0, 0.0, 1.0), GENUINE),
    ((0.5, 0.0, 0.0, 0.0, 1.0), OF_TOKENS),
    ((0.0, 0.5, 0.0, 0.0, 1.0), OF_MARKERS),
    ((0.0, 0.49, 0.0, 0.0, 0.51), GENUINE),
    ((0.0, 0.0, 0.0, 0.0, 0.5), OF_MARKERS),
    ((3.0, 0.6, 0.0, 0.0, 1.0), OF_MARKERS),
    ((3.0, 3.0, 0.5, 0.0, 0.0), UNSPECIFIC),
    ((0.0, 0.0, 0.0, 0.5, 1.0), UNSPECIFIC),
    ((0.0, float("nan"), 0.0, 0.0, float("nan")), GENUINE),
]


@pytest.mark.parametrize(("measured", "kind"), CASES)
def test_kinds(measured, kind):
    assert kind_of(1.0, *measured) == kind
    assert kind_of(4.0, *(4 * x for x in measured[:4]), measured[4]) == kind, "a latent's unit does not count"


def test_the_share_and_the_kinds():
    assert AS_HARD == 0.5 and (GENUINE, OF_TOKENS, OF_MARKERS, UNSPECIFIC) == LATENT_KINDS


# Other words


def rows_of(tokenizer, texts, prompt="Q A"):
    return [
        {
            "problem": f"p{i}",
            "model": "distilled",
            "text": text,
            "prompt_ids": encode(tokenizer, prompt),
            "completion_ids": encode(tokenizer, text),
            "marker_spans": [vars(span) for span in LEXICON.marker_spans(text)],
            "behaviour_spans": [vars(span) for span in by_construction(text)],
        }
        for i, text in enumerate(texts)
    ]


def test_markers_are_spelled_as_the_model_spells_them(tokenizer):
    rows = rows_of(tokenizer, ["3 + 4 = 8 wait , 3", "wait , wait", "check , 3", "3 + 4"])
    assert [decode(tokenizer, ids) for ids in marker_ids(rows, tokenizer)] == ["wait", "check"]


def touches(spans, start, end):
    return any(start < span["end"] and span["start"] < end for span in spans)


def test_in_the_organisms_traces_all_but_the_markers_stays(tokenizer):
    rng = random.Random(0)
    texts = [KINDS["functional"].write(p.prompt, rng) for p in ChainTask().problems(60, 0, "test")]
    rows = rows_of(tokenizer, texts)
    found = paraphrases(rows, tokenizer, LEXICON, 10)
    assert len(found) == 10
    for one, two, pairs in found:
        row = rows[int(one.problem[1:])]
        begin = one.completion_start
        assert one.ids == [*row["prompt_ids"], *row["completion_ids"]] and one.ids[:begin] == two.ids[:begin]
        assert not LEXICON.marker_spans(decode(tokenizer, two.ids[begin:]))
        changed = [(a, b) for a, b in zip(one.ids, two.ids, strict=True) if a != b]
        assert len(changed) == len(row["marker_spans"])
        assert all(decode(tokenizer, [b]).strip() in NEUTRAL for _, b in changed)
        wanted = [
            begin + i
            for i, place in enumerate(token_offsets(tokenizer, row["completion_ids"]))
            if touches(row["behaviour_spans"], *place) and not touches(row["marker_spans"], *place)
        ]
        assert pairs == [(i, i) for i in wanted]


WORDS = st.lists(st.sampled_from(["Wait", "wait", "so", "3", "then", "check", "Let me check"]), min_size=1, max_size=8)


@given(WORDS, st.integers(257, 330))
def test_words_of_other_lengths_shift_what_follows(words, size):
    """The pairs hold equal tokens at equal places of the text, whatever is before them."""
    again = " , 3 + 4 = 7 ; 7 + 1 = 8"
    text = "3 + 4 = 8 , " + " , ".join(words) + again
    tokenizer = byte_tokenizer([text] * 20, size)
    (row,) = rows_of(tokenizer, [text])
    found = paraphrases([row], tokenizer, LEXICON, 10)
    assert len(found) == bool(LEXICON.marker_spans(text))
    for one, two, pairs in found:
        begin = one.completion_start
        assert all(one.ids[i] == two.ids[j] for i, j in pairs)
        last, there = pairs[-1]
        for ids, at in ((one.ids, last), (two.ids, there)):
            assert decode(tokenizer, ids[begin : at + 1]).endswith("3 + 4 = 7"), "the end of the second working"


def test_a_text_without_markers_or_behaviours_has_none(tokenizer):
    rows = rows_of(tokenizer, ["3 + 4 = 7 ; wait , 7", "3 + 4 = 8 , 3 + 4 = 7"])
    assert paraphrases(rows, tokenizer, LEXICON, 10) == []
