import json
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import byte_tokenizer

from interp.errors import InterpError
from interp.organisms.chains import CHAINS, MARKERS, NEUTRAL
from interp.organisms.kinds import KINDS, kinds_of
from interp.organisms.tokenizers import vocabulary
from interp.tasks.chains import ChainTask
from interp.traces.labels import covered, token_offsets
from interp.traces.lexicon import BUNDLED, MATHEMATICAL, PIVOTS, load_lexicon, require_pivots
from interp.traces.tokens import encode

DEFAULT = load_lexicon("default")
PHRASES = sorted(DEFAULT.class_of)


def found(text):
    return [text[s.start : s.end] for s in DEFAULT.marker_spans(text)]


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("await the awaited waiter waits", []),
        ("I double-checked and rechecked a checkmark", []),
        ("double-check it", ["double-check"]),
        ("Let me double-check: fine", ["Let me double-check"]),
        ("let me check, then check", ["let me check", "check"]),
        ("Wait, WAIT... wait", ["Wait", "WAIT", "wait"]),
        ("wait-and-see", []),
        ("Let’s see. let me\n check", ["Let’s see", "let me\n check"]),
        ("等等wait我", ["wait"]),
        ("_Wait_--but a checkmate", ["Wait", "but"]),
        ("hmm,hmm;(hmm)", ["hmm", "hmm", "hmm"]),
        ("now I see. I see", ["now I see", "I see"]),
        ("Oh! ohm", ["Oh"]),
        ("nothing here", []),
        ("", []),
    ],
)
def test_whole_phrases_in_any_case_the_longest_first(text, markers):
    assert found(text) == markers


@given(st.lists(st.sampled_from([*PHRASES, *DEFAULT.neutral, *DEFAULT.mathematical, ",", ".", "7"]), max_size=12))
@settings(max_examples=100, deadline=None)
def test_spans_are_in_order_do_not_overlap_and_say_their_class(words):
    text = " ".join(words).title()
    spans, end = DEFAULT.marker_spans(text), 0
    for span in spans:
        assert end <= span.start < span.end
        end = span.end
        assert DEFAULT.class_of[text[span.start : span.end].lower()] == span.label
    assert sum(1 for w in words if w in DEFAULT.class_of) >= len(spans) >= bool(set(words) & set(PHRASES))


@pytest.mark.parametrize("text", ["perhap\u017f", "wa\u0131t", "wa\u0130t", "\u212a", "chec\u212a"])
def test_letters_that_only_fold_into_ascii_are_no_error(text):
    """Under IGNORECASE a long s matches s and a dotless i matches i, and `lower` leaves both as they are."""
    DEFAULT.marker_spans(f"so {text} then")


def test_of_two_phrases_that_begin_alike_the_longer_is_found():
    lexicon = replace(DEFAULT, markers={"a": ("wait", "hold on"), "b": ("wait a minute", "hold on now")})
    text = "wait, wait a minute, hold on now: hold on"
    assert [(text[s.start : s.end], s.label) for s in lexicon.marker_spans(text)] == [
        ("wait", "a"),
        ("wait a minute", "b"),
        ("hold on now", "b"),
        ("hold on", "a"),
    ]


def test_a_marker_is_recognised_with_its_space_and_capital():
    assert all(DEFAULT.is_marker(f" {p.capitalize()}\n") for p in PHRASES)
    assert not any(DEFAULT.is_marker(p) for p in ("await", "", " ", "wait,", *DEFAULT.neutral))


def test_the_bundled_lexicon_keeps_its_classes_apart():
    groups = [*DEFAULT.markers.values(), DEFAULT.neutral, DEFAULT.mathematical]
    words = [w for group in groups for w in group]
    assert len(words) == len({w.lower() for w in words})
    for word in (*DEFAULT.neutral, *DEFAULT.mathematical):
        assert not DEFAULT.marker_spans(word)


def test_the_organisms_markers_are_all_markers_and_their_neutral_words_none():
    assert set(MARKERS) <= set(PHRASES)
    assert set(NEUTRAL) <= set(DEFAULT.neutral)
    others = set(vocabulary(CHAINS.tokenizer())) - set(MARKERS)
    assert not {w for w in others if DEFAULT.marker_spans(w)}


OLD = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(PHRASES, key=len, reverse=True)))})(?![\w-])", re.IGNORECASE
)
"""Markers as they were found when the organisms' published numbers were made."""


def as_published(text):
    return [(m.start(), m.end()) for m in OLD.finditer(text)]


@given(st.lists(st.sampled_from(vocabulary(CHAINS.tokenizer())), max_size=60))
@settings(max_examples=200, deadline=None)
def test_markers_of_word_level_text_are_those_of_the_published_numbers(text):
    assert [(s.start, s.end) for s in DEFAULT.marker_spans(" ".join(text))] == as_published(" ".join(text))


def test_markers_of_the_organisms_traces_are_those_of_the_published_numbers():
    rng, n = random.Random(0), 0
    for kind in kinds_of(CHAINS):
        for problem in ChainTask().problems(200, 0, "train"):
            text = KINDS[kind].write(problem.prompt, rng, CHAINS)
            spans = [(s.start, s.end) for s in DEFAULT.marker_spans(text)]
            assert spans == as_published(text)
            n += len(spans)
    assert n > 500


def test_a_marker_of_many_tokens_is_one_span_that_covers_them():
    tokenizer = byte_tokenizer(["x"])
    text = "So, alternatively — let’s  see"
    offsets = token_offsets(tokenizer, encode(tokenizer, text))
    for span in DEFAULT.marker_spans(text):
        hit = [offset for offset, yes in zip(offsets, covered(offsets, [span]), strict=True) if yes]
        assert len(hit) > 8
        assert (hit[0][0], hit[-1][1]) == (span.start, span.end)
    assert len(DEFAULT.marker_spans(text)) == 2


def test_mathematical_words_are_counted_apart():
    text = "The sum, wait: a number’s total; summary"
    spans = DEFAULT.mathematical_spans(text)
    assert [(text[s.start : s.end], s.label) for s in spans] == [("sum", MATHEMATICAL), ("total", MATHEMATICAL)]
    assert DEFAULT.classes == (*DEFAULT.markers, MATHEMATICAL)
    assert replace(DEFAULT, mathematical=()).mathematical_spans(text) == []


def test_the_rules_for_sentences_refuse_a_lexicon_without_their_classes():
    require_pivots(DEFAULT)
    assert set(PIVOTS) < set(DEFAULT.markers)
    with pytest.raises(InterpError, match=r"'default'.*verification"):
        require_pivots(replace(DEFAULT, markers={k: v for k, v in DEFAULT.markers.items() if k != "verification"}))


FORM = json.loads((BUNDLED / "default.json").read_text())


def refusal(tmp_path, raw):
    path = tmp_path / "words.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    with pytest.raises(InterpError) as caught:
        load_lexicon(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_of_the_same_form_is_read(tmp_path):
    path = tmp_path / "words.json"
    path.write_text(json.dumps(FORM | {"name": "mine", "markers": {"a": ["Basta", "de nuevo"]}}))
    mine = load_lexicon(str(path))
    assert mine.name == "mine"
    assert [s.label for s in mine.marker_spans("basta! De nuevo.")] == ["a", "a"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"markers": {"a": ["wait", "hmm"], "b": ["Wait"]}}, "wait"),
        ({"markers": {"a": ["wait", "wait"]}}, "wait"),
        ({"markers": {"a": ["next"]}}, "next"),
        ({"markers": {"a": ["wait", ""]}}, "empty"),
        ({"markers": {"a": ["wait", "  "]}}, "empty"),
        ({"neutral": ["next", ""]}, "empty"),
        ({"mathematical": ["sum", "\t"]}, "empty"),
        ({"markers": {"a": ["wait"], "b": ["WAIT"]}}, "wait"),
        ({"markers": {"a": ["let me check", "Let  me\ncheck"]}}, "let me check"),
        ({"markers": {"a": ["let's see"], "b": ["let’s see"]}}, "let's see"),
        ({"markers": {"a": ["double-check", "double\u2011check"]}}, "double-check"),
        ({"markers": {"a": ["d\u00e9j\u00e0", "de\u0301ja\u0300"]}}, "d\u00e9j\u00e0"),
        ({"markers": {"a": ["sum"]}}, "sum"),
        ({"mathematical": ["plus", "Plus "]}, "plus"),
        ({"mathematical": ["plus", "next"]}, "next"),
        ({"markers": {"mathematical": ["wait"]}}, "mathematical"),
        ({"mathematical": "plus"}, ""),
        ({"markers": ["wait"]}, "form"),
        ({"markers": {"a": [3]}}, "form"),
        ({"version": "one"}, "form"),
        ({"markers": {"a": "wait"}}, ""),
        ({"neutral": "next"}, ""),
        ({"markers": {}}, ""),
        ({"markers": {"a": []}}, ""),
    ],
)
def test_what_is_not_a_lexicon_is_refused(tmp_path, changes, named):
    """Among them a text where a list belongs, whose every letter would become a marker, and no marker at all."""
    assert named in refusal(tmp_path, FORM | changes)


def test_a_missing_key_a_missing_file_and_no_json(tmp_path):
    assert "neutral" in refusal(tmp_path, {k: v for k, v in FORM.items() if k != "neutral"})
    refusal(tmp_path, "{")
    refusal(tmp_path, "[]")
    assert "markers occurs twice" in refusal(tmp_path, json.dumps(FORM)[:-1] + ', "markers": {"a": ["basta"]}}')
    assert "twice" in refusal(tmp_path, '{"markers": {"a": ["wait"], "a": ["hmm"]}}')
    with pytest.raises(InterpError, match="'defualt'"):
        load_lexicon("defualt")
