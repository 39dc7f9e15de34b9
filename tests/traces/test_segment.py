import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.names import REFLECTION, VERIFICATION
from interp.organisms.chains import CHAINS
from interp.organisms.kinds import KINDS, kinds_of
from interp.tasks.chains import ChainTask
from interp.traces.equations import recomputations
from interp.traces.events import episodes
from interp.traces.lexicon import Lexicon, load_lexicon
from interp.traces.segment import by_construction, by_sentences, repetition
from interp.traces.sentences import sentences

LEXICON = load_lexicon("default")


def spelled(text, spans):
    return [(text[s.start : s.end], s.label) for s in spans]


WORDS = st.lists(st.sampled_from(["wait", "next", ",", "und", "noch", "einmal", "—", "!"]), max_size=6).map(" ".join)
"""What may stand between two workings."""


@given(
    between=WORDS, a=st.integers(0, 99), b=st.integers(0, 99), results=st.tuples(st.integers(0, 99), st.integers(0, 99))
)
@settings(max_examples=60, deadline=None)
def test_a_recomputation_is_found_whatever_the_words(between, a, b, results):
    first, again = (f"{a} + {b} = {r}" for r in results)
    text = f"so {first} {between} {again} ; 3 * 3 = 9"
    spans = [(words.strip(), label) for words, label in spelled(text, by_construction(text))]
    assert [span for span in spans if span[0]] == [(between, REFLECTION)] * bool(between) + [(again, VERIFICATION)]


def test_other_operands_or_an_equation_between_are_no_recomputation():
    for text in ("3 + 4 = 8 ; 4 + 3 = 7", "3 + 4 = 8 ; 3 - 4 = 9", "3 + 4 = 8 ; 1 + 1 = 2 ; 3 + 4 = 7", "3 + 4 = 8"):
        assert recomputations(text) == []
        assert by_construction(text) == []


def test_a_third_working_is_a_recomputation_of_the_second():
    text = "3 + 4 = 8 , wait , 3 + 4 = 9 , check , 3 + 4 = 7"
    assert [(first.result, again.result) for first, again in recomputations(text)] == [("8", "9"), ("9", "7")]


REOPENING = ("functional", "coupled", "redundant", "mixed")
"""Kinds whose wrong steps are worked again."""


def test_the_labels_are_the_generators_own():
    """Functional traces reopen a step with a comma. A chain that repeats itself (`0 + 0 = 0 ; 0 + 0 = 0`) reads like a
    recomputation; such coincidences are under 1 % of the steps."""
    rng, steps, false = random.Random(0), 0, 0
    for kind in kinds_of(CHAINS):
        for problem in ChainTask().problems(500, 0, "train"):
            text = KINDS[kind].write(problem.prompt, rng)
            steps += text.count("=")
            commas = re.finditer(r"= \d (?=, \w+ , \d)", text) if kind in REOPENING else ()
            reopened = {match.end() for match in commas}
            found = {first.end + 1 for first, _ in recomputations(text)}
            assert reopened <= found
            false += len(found - reopened)
    assert false / steps < 0.01


def test_sentences_with_pivots():
    text = "First 3 + 4 = 8. Wait, that is odd. Let me check: 3 + 4 = 7!\nSo awaiting. Fine 3 + 4 = 7 again."
    text += " Hmm, let me verify"
    assert spelled(text, by_sentences(text, LEXICON)) == [
        ("Wait, that is odd. Let me check:", REFLECTION),
        ("3 + 4 = 7", VERIFICATION),
        ("Fine", REFLECTION),
        ("3 + 4 = 7", VERIFICATION),
        (" Hmm, let me verify", VERIFICATION),
        (" Hmm, let me verify", REFLECTION),
    ]
    assert by_sentences("", LEXICON) == []


@given(st.text(st.sampled_from("a3.!?;\n #…。 "), max_size=40))
@settings(max_examples=200, deadline=None)
def test_sentences_tile_the_text(text):
    assert "".join(text[a:b] for a, b in sentences(text)) == text
    assert all(a < b for a, b in sentences(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("So 0.5 * 4 = 2.0. Wait... no!", ["So 0.5 * 4 = 2.0.", " Wait...", " no!"]),
        ("7 + 5 = 2 ; 2 - 3 = 9 #### 9", ["7 + 5 = 2 ;", " 2 - 3 = 9 ", "#### 9"]),
        ("\n\nHmm… wait.\nOK", ["\n\n", "Hmm…", " wait.\n", "OK"]),
        ("等等。再看？", ["等等。", "再看？"]),
    ],
)
def test_where_sentences_end(text, parts):
    assert [text[a:b] for a, b in sentences(text)] == parts


def test_a_pivot_that_goes_on_after_a_line_break_is_its_first_sentences():
    text = "Now let me\n check it. Done"
    assert spelled(text, by_sentences(text, LEXICON)) == [("Now let me\n", VERIFICATION)]


def test_without_recomputation_the_rule_reads_words_alone():
    text = "3 + 4 = 8. Fine, 3 + 4 = 7. Hmm."
    redone = [("Fine,", REFLECTION), ("3 + 4 = 7", VERIFICATION)]
    assert spelled(text, by_sentences(text, LEXICON)) == [*redone, (" Hmm.", REFLECTION)]
    assert spelled(text, by_sentences(text, LEXICON, recomputed=False)) == [(" Hmm.", REFLECTION)]


@pytest.mark.parametrize(
    ("text", "verified"),
    [
        ("3 + 4 = 8. Let me check. 3 + 4 = 7.", ["3 + 4 = 7"]),
        ("3 + 4 = 8. Let me check. So. That is it. 3 + 4 = 7.", [" Let me check.", "3 + 4 = 7"]),
        ("3 + 4 = 8.\n\nLet me check.\n\nOnce more.\n\n3 + 4 = 7.", ["3 + 4 = 7"]),
        ("3 + 4 = 8 , let me check , 3 + 4 = 7", ["3 + 4 = 7"]),
        ("3 + 4 = 8. 3 + 4 = 7. Let me check.", ["3 + 4 = 7", " Let me check."]),
        ("Let me check. Now 3 + 4 = 7.", ["Let me check."]),
        ("Tom is in the hall. Let me check. So Tom is in the barn.", ["Tom is in the barn"]),
        ("Check, check!", ["Check, check!"]),
    ],
)
def test_the_step_is_labelled_and_not_the_words_that_announce_it(text, verified):
    spans = by_sentences(text, LEXICON)
    assert [words for words, label in spelled(text, spans) if label == VERIFICATION] == verified


@pytest.mark.parametrize(
    ("text", "before", "announced"),
    [
        ("Tom is in the hall. Wait. So Tom is in the barn.", "Tom is in the hall.", "Wait. So"),
        ("Tom is in the hall. Tom is in the barn.", "Tom is in the hall.", None),
        ("Tom is in the hall, wait, Tom is in the barn.", "Tom is in the hall", ", wait,"),
        (
            "3 + 4 = 8. Ann has two cats. Hmm, let me check: 3 + 4 = 7.",
            "3 + 4 = 8. Ann has two cats.",
            "Hmm, let me check:",
        ),
        ("3 + 4 = 8. Ann has two cats. 3 + 4 = 7.", "3 + 4 = 8. Ann has two cats.", None),
        ("3 + 4 = 8; next, 3 + 4 = 7.", "3 + 4 = 8;", "next,"),
        ("3 + 4 = 8, so 3 + 4 = 7.", "3 + 4 = 8", ", so"),
    ],
)
def test_a_check_begins_with_the_words_that_announce_it(text, before, announced):
    """Whatever they are, and with none of what was worked before: there the decision to check was made."""
    spans = by_sentences(text, LEXICON)
    begun = next(
        span for span in episodes(spans, text) if VERIFICATION in {s.label for s in spans if s.end <= span.end}
    )
    assert text[: begun.start].rstrip() == before
    assert [words for words, label in spelled(text, spans) if label == REFLECTION] == [announced] * (
        announced is not None
    )


def test_a_marker_without_letters_is_labelled_where_it_stands():
    dots = Lexicon("dots", 1, {"verification": ("...",), "realization": ("…",)}, (), ())
    assert spelled("... So", by_sentences("... So", dots)) == [("...", VERIFICATION)]
    assert spelled("…\nSo", by_sentences("…\nSo", dots)) == [("…\n", REFLECTION)]


@given(ids=st.lists(st.integers(0, 3), max_size=40), n=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_repetition_is_a_share(ids, n):
    found = repetition(ids, n)
    assert 0 <= found < 1
    seen, repeats, grams = set(), 0, 0
    for i in range(len(ids) - n + 1):
        gram = tuple(ids[i : i + n])
        repeats, grams = repeats + (gram in seen), grams + 1
        seen.add(gram)
    assert found == pytest.approx(repeats / grams if grams else 0)


def test_repetition_at_its_ends():
    assert repetition(list(range(50))) == 0
    assert repetition([1, 2, 3]) == repetition([]) == 0
    assert repetition([7] * 103) == pytest.approx(0.99)
