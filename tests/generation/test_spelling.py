import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from generation.writers import LEXICON, TEXTS, cut, tokenizer_of, vocabulary_of
from interp.generation.spelling import Spelling
from interp.generation.vocabulary import Vocabulary, read_vocabulary
from interp.organisms.chains import CHAINS
from interp.organisms.tokenizers import vocabulary as all_words
from interp.traces.tokens import decode, encode

PHRASES = tuple(LEXICON.class_of)
SIZES = (257, 290, 330, 400)


def metaspace(pieces):
    """As Llama 2's and Gemma's: a space is part of the token, and a decoder drops that of the first word."""
    inner = Tokenizer(models.Unigram([("<unk>", 0.0), *((p, -1.0) for p in pieces)], unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<unk>")


METASPACE = metaspace(["▁wait", "wait", "▁a", "a", "▁next", "next", "▁", "\n", "ing", ".", "▁but", "ton"])


def spelled(vocabulary, *pieces):
    return [vocabulary._id_of[piece] for piece in pieces]


def of_pieces(*pieces, phrases=PHRASES):
    return Spelling(Vocabulary(tokenizer_of(257), pieces), phrases)


def test_word_level_pieces_carry_their_space(tokenizer):
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    words = all_words(CHAINS.tokenizer())
    assert vocabulary.pieces[words.index("wait")] == " wait"
    assert [vocabulary.pieces[i] for i in tokenizer.all_special_ids] == [""] * len(tokenizer.all_special_ids)
    assert vocabulary.text(encode(tokenizer, "wait , 3 + 4")) == " wait , 3 + 4"
    assert vocabulary.encode(" wait ,") == encode(tokenizer, "wait ,")
    assert vocabulary.encode("wait") is None and vocabulary.encode(" unheard") is None


@pytest.mark.parametrize("size", SIZES)
def test_byte_level_pieces_join_to_the_text_however_it_is_cut(size):
    vocabulary, rng = vocabulary_of(size), random.Random(0)
    for text in TEXTS:
        ascii_text = text.replace("’", "'")
        ids = cut(vocabulary, ascii_text, rng)
        assert vocabulary.text(ids) == ascii_text == decode(vocabulary.tokenizer, ids)
        assert vocabulary.text(vocabulary.encode(" next " + ascii_text)) == " next " + ascii_text


def test_the_vocabularies_cut_the_phrases_in_different_ways():
    """Else the tests of edits below would test one way alone."""
    few, most = vocabulary_of(257), vocabulary_of(400)
    assert len(few.encode(" wait")) == 5 and len(most.encode(" wait")) == 1
    assert len(most.encode(" hold on")) > 1 and " await" in most._id_of and " button" in most._id_of
    assert "but" in vocabulary_of(330)._id_of and " butt" in vocabulary_of(330)._id_of


def test_a_first_words_space_is_neither_lost_nor_added():
    vocabulary = read_vocabulary(METASPACE, len(METASPACE))
    ids = METASPACE.convert_tokens_to_ids
    assert [vocabulary.pieces[ids(t)] for t in ("▁wait", "wait", "▁", "ing")] == [" wait", "wait", " ", "ing"]
    assert vocabulary.encode(" next") == [ids("▁next")]
    assert vocabulary.encode("next") == [ids("next")], "which the tokenizer itself would write with a space"


def test_ids_beyond_the_tokenizer_add_no_text(tokenizer):
    vocabulary = read_vocabulary(tokenizer, len(tokenizer) + 5)
    assert vocabulary.pieces[-5:] == ("",) * 5


def test_the_longest_beginning():
    vocabulary = Vocabulary(tokenizer_of(257), ("", "1", "12", "2", "1", "123x"))
    assert [vocabulary.longest(text) for text in ("123", "2", "x", "", "123x4")] == [2, 3, None, None, 5]


def test_ids_that_hold_a_phrase():
    pieces = ["wait", " Wait", "WAIT ", "await", " waiting", "\nHmm", ".", " hold on", " button", ", but", "attribute"]
    one = of_pieces(*pieces)
    assert [pieces[i] for i in one.anywhere] == [" Wait", "\nHmm", " hold on", ", but"]
    assert [pieces[i] for i in one.at_edges] == ["wait", "WAIT "]


@pytest.mark.parametrize(
    ("tail", "pieces"),
    [
        (" hold", {" on"}),
        (" hold ", {"on", " on"}),
        (" hold\n", {"on", " on"}),
        (" Hold", {" on"}),
        (" bu", {"t", "t,"}),
        ("bu", {"t", "t,"}),
        (" abu", set()),
        (" bu ", set()),
        (" behold", set()),
        ("hold", {" on"}),
        (" let", set()),
        (" let's", {" see", " SEE"}),
        (" let’s", {" see", " SEE"}),
        (" let me double-", {"check"}),
        ("", set()),
    ],
)
def test_ids_that_complete_a_phrase(tail, pieces):
    all_pieces = (" on", "on", "t", "t,", "tton", " only", " see", " SEE", "check", "checks", "x")
    one = of_pieces(*all_pieces)
    assert {all_pieces[i] for i in one.completing(tail)} == pieces


@pytest.mark.parametrize(
    ("written", "piece", "expected"),
    [
        ([" x", " bu"], "t", (2, " ", "but", "")),
        ([" x", " bu"], "t,", (2, " ", "but", ",")),
        ([" x", "("], "Wait", (1, "", "Wait", "")),
        ([], "wait", (1, "", "wait", "")),
        ([], " wait", (1, " ", "wait", "")),
        (["(", "hold"], " on", (2, "", "hold on", "")),
        ([" x", ". Hold", "\n", "on"], "x", None),
        ([" x", ". Hold", "\n"], "on", (3, ". ", "Hold\non", "")),
        ([" a"], "wait", None),
        ([" attri", "bu"], "t", None),
        ([" bu"], "tton", None),
        ([" wait"], " x", None),
        ([" let", "’", "s"], " see", (4, " ", "let’s see", "")),
    ],
)
def test_the_phrase_that_a_piece_completes(written, piece, expected):
    pieces = tuple(dict.fromkeys([*written, piece, " pad"]))
    one = of_pieces(*pieces)
    for padding in ([], [" pad"] * 20):
        if padding and not written:
            continue
        found = one.found([pieces.index(p) for p in [*padding, *written]], piece)
        assert (None if found is None else (found.tokens, found.lead, found.phrase, found.trail)) == expected


@pytest.mark.parametrize(
    ("written", "piece", "waits"),
    [([" bu"], "t", True), ([" bu"], "t,", False), ([" hold"], " on", False), ([], "but", False)],
)
def test_only_a_piece_inside_a_word_waits(written, piece, waits):
    pieces = (*written, piece)
    one = of_pieces(*pieces)
    assert one.waits(one.found(list(range(len(written))), piece), piece) == waits


@given(seed=st.integers(0, 10**6), size=st.sampled_from(SIZES))
def test_found_agrees_with_the_lexicon_at_every_prefix(seed, size):
    """Whatever the cut: a piece completes a phrase exactly where the text with it has one that ends in the piece."""
    vocabulary, rng = vocabulary_of(size), random.Random(seed)
    one = Spelling(vocabulary, PHRASES)
    text = rng.choice(TEXTS).replace("’", "'")
    start = rng.randrange(len(text))
    ids = cut(vocabulary, ". " + text[start : start + 40], rng)
    for i in range(1, len(ids)):
        before, piece = vocabulary.text(ids[:i]), vocabulary.pieces[ids[i]]
        ends = [s for s in LEXICON.marker_spans(before + piece) if s.end > len(before)]
        found = one.found(ids[:i], piece)
        assert (found is not None) == bool(ends), (before, piece)
        if found is not None:
            assert found.phrase == (before + piece)[ends[0].start : ends[0].end]
            held = vocabulary.text([*ids[:i], ids[i]][-found.tokens :])
            assert held == found.lead + found.phrase + found.trail
            in_one = found.tokens == 1
            known = ids[i] in (*one.anywhere, *one.at_edges)
            assert in_one == known or ids[i] in one.completing(vocabulary.text(ids[max(0, i - one.reach) : i]))


@pytest.mark.parametrize(
    ("pieces", "occurs"),
    [
        ([" wait"], True),
        ([" a", "wait"], False),
        ([" bu", "t", "ton"], True),
        ([" but", "ton"], True),
        ([" button"], False),
        ([" attribute"], False),
        ([" hold", " on", "ly"], True),
        ([" hold", " only"], False),
        ([" let", "'s", " see"], True),
        ([], False),
    ],
)
def test_a_phrase_occurs_where_a_piece_ends_with_it(pieces, occurs):
    """So that an edit which acts before it sees what follows is known to act."""
    assert of_pieces("x").occurs(pieces) == occurs
