import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import byte_tokenizer

from interp.organisms.documents import functional
from interp.tasks.chains import ChainTask
from interp.traces.labels import BEFORE, ELSEWHERE, INSIDE, MARKER, NEAR, covered, positions, token_offsets
from interp.traces.lexicon import Span, load_lexicon
from interp.traces.segment import by_construction
from interp.traces.tokens import decode, encode, end_id, pad_id

LEXICON = load_lexicon("default")
SPEECH = [
    "Wait, let me check: 7 + 5 = 12. Hmm, 12 − 3 = 9 … so the “answer” is 9 ✓",
    " 等等，让我再检查一遍。 naïve café 🙂🙂 done",
    "  two  spaces\n\n\tand a tab — finally. Actually no.",
]
BYTES = byte_tokenizer(SPEECH * 5, vocab_size=330)


def spans_of(text):
    return LEXICON.marker_spans(text) + by_construction(text)


def test_offsets_are_exact_with_one_word_a_token(tokenizer):
    rng, checked = random.Random(0), 0
    for problem in ChainTask().problems(100, 0, "train"):
        text = functional(problem.prompt, rng)
        ids = encode(tokenizer, text)
        offsets = token_offsets(tokenizer, ids)
        assert "".join(text[a:b] for a, b in offsets) == text
        assert [text[a:b].strip() for a, b in offsets] == text.split()
        for span in spans_of(text):
            hit = covered(offsets, [span])
            spelled = decode(tokenizer, [i for i, yes in zip(ids, hit, strict=True) if yes])
            assert spelled == text[span.start : span.end].strip()
            checked += 1
    assert checked > 100


def touched(tokenizer, text, span):
    """What the tokens that a span covers spell."""
    ids = encode(tokenizer, text)
    hit = covered(token_offsets(tokenizer, ids), [span])
    return decode(tokenizer, [i for i, yes in zip(ids, hit, strict=True) if yes]), sum(hit)


@pytest.mark.parametrize("text", SPEECH)
def test_tokens_tile_a_byte_level_text(text):
    ids = encode(BYTES, text)
    assert decode(BYTES, ids) == text
    offsets = token_offsets(BYTES, ids)
    assert len(offsets) == len(ids)
    assert offsets[0][0] == 0 and offsets[-1][1] == len(text)
    assert all(a <= b for a, b in offsets)


@pytest.mark.parametrize("text", SPEECH)
def test_markers_of_a_byte_level_text_are_spelled_by_their_tokens(text):
    for span in LEXICON.marker_spans(text):
        spelled, _ = touched(BYTES, text, span)
        assert text[span.start : span.end] in spelled


@given(text=st.text(st.sampled_from("ab 7,é等🙂\n"), min_size=1, max_size=25), data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_tokens_of_a_span_spell_it_also_in_many_bytes(text, data):
    """A character may take several tokens; a span that ends in one covers them all, or a label, and with it a patch,
    would cut it in half."""
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    spelled, n = touched(BYTES, text, Span(start, end, "x"))
    assert text[start:end] in spelled
    before = len(encode(BYTES, text[:start]))
    assert n <= len(encode(BYTES, text)) and before >= 0


def test_a_label_can_be_asked_for():
    offsets = [(0, 2), (2, 4), (4, 4), (4, 6)]
    spans = [Span(0, 1, "a"), Span(4, 5, "b")]
    assert covered(offsets, spans) == [True, False, False, True]
    assert covered(offsets, spans, "a") == [True, False, False, False]
    assert covered(offsets, []) == [False] * 4


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_places(flags, near):
    behaviour, marker = [b for b, _ in flags], [m for _, m in flags]
    for i, place in enumerate(positions(behaviour, marker, near)):
        if marker[i]:
            assert place == MARKER
        elif behaviour[i]:
            assert place == INSIDE
        else:
            assert (place == BEFORE) == any(behaviour[i + 1 : i + near + 1])
            assert place in (BEFORE, ELSEWHERE)


def test_sixteen_tokens_stand_before():
    places = positions([False] * 20 + [True], [False] * 21)
    assert places == [ELSEWHERE] * (20 - NEAR) + [BEFORE] * NEAR + [INSIDE]


def test_an_id_of_0_is_an_id():
    assert BYTES.eos_token_id == 0
    assert end_id(BYTES) == 0
    assert pad_id(BYTES) == 0, "no padding token: the end token fills"
    padded = byte_tokenizer(SPEECH)
    padded.add_special_tokens({"pad_token": "<pad>"})
    assert pad_id(padded) == padded.pad_token_id > 0
    assert encode(padded, "a b") == encode(BYTES, "a b"), "nothing is added"
