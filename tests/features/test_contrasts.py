"""Pairs of prefixes, from organisms' texts and from tables made up, against what the texts say themselves."""

import random
from collections import Counter
from dataclasses import asdict

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import byte_tokenizer, small_model

from interp.features.behaviour import selection_half
from interp.features.contrasts import (
    MARKER_NEUTRAL,
    ONSET_FORK,
    SECOND_FIRST,
    WRONG_RIGHT,
    Contrast,
    InjectedPair,
    Pair,
    decision_margin,
    events_of,
    half_of,
    injected_pairs,
    marker_neutral,
    onset_fork,
    said_again,
    second_first,
    wrong_right,
)
from interp.features.margin import Margin, PairMargin
from interp.organisms.chains import MARKERS, NEUTRAL
from interp.organisms.kinds import KINDS
from interp.tasks.chains import ChainTask, apply
from interp.traces.equations import equations
from interp.traces.events import Event, events
from interp.traces.injected import KINDS as ERRORS
from interp.traces.injected import Injected
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Lexicon, load_lexicon
from interp.traces.segment import by_construction
from interp.traces.tokens import decode, encode

LEXICON, TASK, MANY = load_lexicon("default"), ChainTask(), 10**6
MARGIN = Margin((1,), (2,), 1.0, 1.0)
EVENTS = {"events": pl.List(pl.Struct({"token": pl.Int64, "kind": pl.String, "behaviour": pl.String}))}


def table(tokenizer, texts, found=lambda text, offsets: []):
    """Rows of `traces.parquet` from (problem, prompt, text), and a text's events from itself and its tokens."""
    rows = []
    for problem, prompt, text in texts:
        ids = encode(tokenizer, text)
        rows.append(
            {
                "problem": problem,
                "prompt": prompt,
                "text": text,
                "prompt_ids": encode(tokenizer, prompt),
                "completion_ids": ids,
                "events": [asdict(event) for event in found(text, token_offsets(tokenizer, ids))],
            }
        )
    return pl.DataFrame(rows, schema_overrides=EVENTS)


@pytest.fixture(scope="module")
def traces(tokenizer):
    """Of a functional organism: every wrong step is worked again, after `,`; a chain that holds a right step twice
    counts as a check too."""
    rng = random.Random(0)
    texts = [(p.id, p.prompt, KINDS["functional"].write(p.prompt, rng)) for p in TASK.problems(100, 0, "test")]
    kinds = frozenset({"= 0"})
    return table(tokenizer, texts, lambda text, offsets: events(text, offsets, by_construction(text), kinds))


def row_of(traces, prefix):
    """(row, index of the next token in its completion)"""
    (row,) = [r for r in traces.iter_rows(named=True) if prefix[: len(r["prompt_ids"])] == r["prompt_ids"]]
    at = len(prefix) - len(row["prompt_ids"])
    assert row["completion_ids"][:at] == prefix[len(row["prompt_ids"]) :]
    return row, at


def check_matched(contrast, kind, most):
    """What holds of every contrast between places: equal kind, equal half, each place once, and not too many."""
    for side in ("positive", "negative"):
        prefixes = [tuple(getattr(pair, side)) for pair in contrast.pairs]
        assert len(set(prefixes)) == len(prefixes) <= most
    for pair in contrast.pairs:
        assert kind(pair.positive) == kind(pair.negative)


# The sides of a contrast


def test_a_half_is_that_of_the_problems_on_which_latents_are_chosen():
    problems = [f"p{i}" for i in range(40)]
    contrast = Contrast("any", [Pair(p, [i, 0], [i, 1]) for i, p in enumerate(problems)], MARGIN)
    wanted = selection_half(problems)
    assert contrast.choosing().tolist() == wanted.tolist() == [half_of(p) for p in problems]
    assert contrast.smaller_half() == min(wanted.sum(), 40 - wanted.sum())
    for choosing in (True, False):
        half = contrast.half(choosing=choosing)
        assert half.pairs == [pair for pair, is_in in zip(contrast.pairs, wanted, strict=True) if is_in == choosing]
        assert (half.name, half.margin) == ("any", MARGIN)
        assert half.smaller_half() == 0


def test_a_contrast_without_pairs_has_halves_without_pairs():
    empty = Contrast("any", [], None)
    assert empty.choosing().tolist() == [] and empty.smaller_half() == 0
    assert empty.half(choosing=True) == empty.half(choosing=False) == empty


# Wrong / right


def test_errors_are_in_one_step_of_texts_that_the_model_wrote(traces, tokenizer):
    pairs = injected_pairs(traces, tokenizer, TASK, 0)
    assert len(pairs) > 80 and len({pair.problem for pair in pairs}) == len(pairs)
    for pair in pairs:
        row, at = row_of(traces, pair.right)
        assert (row["problem"], len(row["prompt_ids"])) == (pair.problem, pair.prompt_length)
        assert at == pair.injected.token + 1
        assert len(pair.wrong) == len(pair.right)
        assert pair.wrong[: pair.prompt_length] == pair.right[: pair.prompt_length]
        assert sum(a != b for a, b in zip(pair.wrong, pair.right, strict=True)) == 1
        for ids, is_right in ((pair.right, True), (pair.wrong, False)):
            a, op, b, _, result = decode(tokenizer, ids[-5:]).split()
            assert (apply(int(a), op, int(b)) == int(result)) == is_right


def test_errors_are_drawn_by_the_seed_and_their_kinds_are_as_many(traces, tokenizer):
    pairs = injected_pairs(traces, tokenizer, TASK, 0)
    assert pairs == injected_pairs(traces, tokenizer, TASK, 0)
    others = injected_pairs(traces, tokenizer, TASK, 1)
    assert 0 < sum(a == b for a, b in zip(pairs, others, strict=False)) < len(pairs) / 2
    assert len({pair.injected.place for pair in pairs}) > 2
    counts = Counter(pair.injected.kind for pair in pairs)
    assert set(counts) == set(ERRORS) and max(counts.values()) <= 2 * min(counts.values())


@pytest.mark.parametrize(
    ("ids", "right", "wrong", "is_kept"),
    [
        ("3 + 4 = 7 ; 7", "3 + 4 = 7", "3 + 4 = 9", True),
        ("3 + 4 = 7 ; 7", "3 + 4 = 7", "3 + 4 = 1 7", False),  # one token more
        ("3 + 4 = 7 ; 7", "3 + 4 = 7", "3 + 4 = ", False),  # one token less
        ("3 + 4 = 8 ; 7", "3 + 4 = 7", "3 + 4 = 9", False),  # the text does not encode to what was sampled
        ("3 + 4 = 7 ; 7", None, None, False),
    ],
)
def test_what_moves_tokens_is_left_out(tokenizer, monkeypatch, ids, right, wrong, is_kept):
    seen = []

    def planted(text, prompt, offsets, found, task, rng, kinds):
        seen.append((text, prompt, offsets, found, task, kinds))
        return right and Injected(4, 0, kinds[0], right, wrong, 0, 9)

    monkeypatch.setattr("interp.features.contrasts.inject", planted)
    fork = Event(4, "= 0", None)
    rows = table(tokenizer, [(f"p{i}", "Q 3 + 4 A", ids) for i in range(5)], lambda *_: [fork])
    pairs = injected_pairs(rows, tokenizer, TASK, 0)
    assert len(pairs) == (5 if is_kept else 0)
    assert [kinds for *_, kinds in seen] == [
        ("digit", "sign", "operand"),
        ("sign", "operand", "digit"),
        ("operand", "digit", "sign"),
        ("digit", "sign", "operand"),
        ("sign", "operand", "digit"),
    ]
    offsets = token_offsets(tokenizer, encode(tokenizer, ids))
    assert seen[0][:5] == (ids, "Q 3 + 4 A", offsets, [fork], TASK)
    for pair in pairs:
        assert decode(tokenizer, pair.right) == "Q 3 + 4 A 3 + 4 = 7"
        assert decode(tokenizer, pair.wrong) == "Q 3 + 4 A 3 + 4 = 9"


def test_the_side_with_the_error_is_positive():
    injected = Injected(1, 0, "digit", "right", "wrong", 0, 1)
    pairs = [InjectedPair("p", injected, right=[5, 6, 7], wrong=[5, 6, 8], prompt_length=1)]
    assert wrong_right(iter(pairs), MARGIN) == Contrast(WRONG_RIGHT, [Pair("p", [5, 6, 8], [5, 6, 7])], MARGIN)


# Onset / fork


def test_the_deciding_tokens_of_an_organism_are_its_punctuation(traces, tokenizer):
    margin = decision_margin(traces)
    assert margin is not None and margin.positive_share > 0.95 and margin.negative_share == 1
    assert decode(tokenizer, margin.positive) == ","
    assert set(decode(tokenizer, margin.negative).split()) == {";", "####"}


def test_a_text_without_a_decision_has_no_margin(tokenizer):
    """An onset at the very end is followed by nothing."""
    text = "3 + 4 = 7 ; 7"
    last, fork = Event(6, "a", "verification"), Event(4, "= 0", None)
    for found in ([], [fork], [last], [fork, last]):
        assert decision_margin(table(tokenizer, [("p", "Q A", text)], lambda *_, found=found: found)) is None
    onset = Event(0, "a", "verification")
    assert decision_margin(table(tokenizer, [("p", "Q A", text)], lambda *_: [onset, fork, last])) == Margin(
        tuple(encode(tokenizer, "+")), tuple(encode(tokenizer, ";")), 1.0, 1.0
    )


@pytest.mark.parametrize("most", [7, MANY])
def test_onsets_are_beside_forks(traces, tokenizer, most):
    contrast = onset_fork(traces, MARGIN, most, 0)
    assert (contrast.name, contrast.margin) == (ONSET_FORK, MARGIN)
    assert len(contrast.pairs) == 7 if most == 7 else len(contrast.pairs) > 20
    for pair in contrast.pairs:
        (first, at), (second, there) = row_of(traces, pair.positive), row_of(traces, pair.negative)
        assert pair.problem == first["problem"]
        assert half_of(first["problem"]) == half_of(second["problem"])
        assert [event.is_onset for event in events_of(first) if event.token == at - 1] == [True]
        assert [event.is_onset for event in events_of(second) if event.token == there - 1] == [False]
    check_matched(contrast, lambda prefix: decode(tokenizer, prefix[-2:-1]), most)


def test_pairs_are_drawn_by_the_seed(traces, tokenizer):
    for make in (
        lambda seed: onset_fork(traces, MARGIN, 10, seed),
        lambda seed: marker_neutral(traces, tokenizer, LEXICON, 10, seed),
    ):
        assert make(0) == make(0)
        for side in ("positive", "negative"):
            first, second = ({tuple(getattr(pair, side)) for pair in make(seed).pairs} for seed in (0, 1))
            assert first != second


PLACES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.booleans()), max_size=20)


@given(PLACES, st.integers(0, 8), st.integers(0, 3))
def test_as_many_places_are_paired_as_have_a_match(places, most, seed):
    """Of places made up: (problem, kind, whether it is an onset)."""
    rows = [
        {
            "problem": f"p{problem}",
            "prompt_ids": [ord(kind), problem],
            "completion_ids": [number, 0],
            "events": [asdict(Event(0, kind, "verification" if is_onset else None))],
        }
        for number, (problem, kind, is_onset) in enumerate(places)
    ]
    traces = pl.DataFrame(rows, schema_overrides=EVENTS) if rows else pl.DataFrame()
    contrast = onset_fork(traces, None, most, seed)
    counts = Counter((kind, half_of(f"p{problem}"), is_onset) for problem, kind, is_onset in places)
    possible = sum(min(counts[k, h, True], counts[k, h, False]) for k in "ab" for h in (True, False))
    assert len(contrast.pairs) == min(most, possible)
    check_matched(contrast, lambda prefix: (prefix[0], half_of(f"p{prefix[1]}")), most)
    for pair in contrast.pairs:
        assert places[pair.positive[2]][2] and not places[pair.negative[2]][2]
        assert pair.problem == f"p{pair.positive[1]}"


# Marker / neutral


@pytest.mark.parametrize("most", [7, MANY])
def test_markers_are_beside_neutral_words_after_the_same_two_tokens(traces, tokenizer, most):
    contrast = marker_neutral(traces, tokenizer, LEXICON, most, 0)
    assert contrast.name == MARKER_NEUTRAL
    assert len(contrast.pairs) == 7 if most == 7 else len(contrast.pairs) > 10
    for pair in contrast.pairs:
        (first, at), (second, there) = row_of(traces, pair.positive), row_of(traces, pair.negative)
        assert pair.problem == first["problem"]
        assert half_of(first["problem"]) == half_of(second["problem"])
        assert decode(tokenizer, first["completion_ids"][at : at + 1]) in MARKERS
        assert decode(tokenizer, second["completion_ids"][there : there + 1]) in NEUTRAL
    check_matched(contrast, lambda prefix: prefix[-2:], most)
    assert contrast.margin is not None
    assert set(decode(tokenizer, contrast.margin.positive).split()) == set(MARKERS)
    assert set(decode(tokenizer, contrast.margin.negative).split()) == set(NEUTRAL)


SPACED = [
    "3 + 4 = 7\n\n{}, 3",
    "3 + 4 = 7. {}, 3",
    "{}, 3 = 3",
    "so 3 🙂{}, 3",
    "so 3 🙂  {} 3",
    "a (\u2003{}) 3",
    "a\n \n{}",
]


@pytest.mark.parametrize("frame", SPACED, ids=ascii)
@pytest.mark.parametrize("vocab_size", [280, 420], ids=["few merges", "many merges"])
def test_white_space_before_a_word_is_in_the_prefix_or_in_the_words_token(frame, vocab_size):
    """Pieces of bytes: blank tokens, blanks in the word's own token, and characters of several tokens before it."""
    texts = [frame.format(word) for word in ("Wait", "Now")]
    tokenizer = byte_tokenizer([t for f in SPACED for t in (f.format("Wait"), f.format("Now"))] * 20, vocab_size)
    rows = table(tokenizer, [("p", "Q: 3 + 4?", text) for text in texts])
    contrast = marker_neutral(rows, tokenizer, LEXICON, MANY, 0)
    (pair,) = contrast.pairs
    for prefix, text, word in zip((pair.positive, pair.negative), texts, ("Wait", "Now"), strict=True):
        ids = encode(tokenizer, "Q: 3 + 4?") + encode(tokenizer, text)
        assert ids[: len(prefix)] == prefix
        piece = decode(tokenizer, ids[len(prefix) : len(prefix) + 1]).lstrip()
        assert piece and word.startswith(piece)
        assert decode(tokenizer, prefix).rstrip() == "Q: 3 + 4?" + text[: text.index(word)].rstrip()


def test_a_word_begins_with_the_first_piece_of_its_first_character():
    tokenizer = byte_tokenizer(["3 + 4"], 260)
    lexicon = Lexicon("split", 1, {"realization": ("é wait",)}, (), ("ü now",))
    rows = table(tokenizer, [("p", "Q: 3?", "3 = 3, é wait"), ("p", "Q: 3?", "3 = 3, ü now")])
    (pair,) = marker_neutral(rows, tokenizer, lexicon, MANY, 0).pairs
    assert pair.positive == pair.negative == encode(tokenizer, "Q: 3?") + encode(tokenizer, "3 = 3, ")


def test_a_word_inside_a_token_or_after_other_tokens_has_no_pair(tokenizer):
    texts = [("p", "Q A", "3 + 4 = 7 wait , 3"), ("p", "Q A", "3 + 4 = 8 now , 3")]
    assert marker_neutral(table(tokenizer, texts), tokenizer, LEXICON, MANY, 0).pairs == []
    same = [("p", "Q A", text.replace("8", "7")) for _, _, text in texts]
    assert len(marker_neutral(table(tokenizer, same), tokenizer, LEXICON, MANY, 0).pairs) == 1
    joined = byte_tokenizer(["(wait)"] * 9 + ["(now)"] * 9, 300)
    joined.add_tokens(["(wait"])
    rows = table(joined, [("p", "Q A", "so (wait) 3"), ("p", "Q A", "so (now) 3")])
    assert marker_neutral(rows, joined, LEXICON, MANY, 0) == Contrast(MARKER_NEUTRAL, [], None)


# Second / first


@pytest.mark.parametrize("most", [7, MANY])
def test_a_second_working_is_beside_its_first_up_to_the_result(traces, tokenizer, most):
    contrast = second_first(traces, tokenizer, LEXICON, most, 0)
    assert contrast.name == SECOND_FIRST and isinstance(contrast.margin, PairMargin)
    assert len(contrast.pairs) == 7 if most == 7 else len(contrast.pairs) > 30
    right = []
    for pair, again, first in zip(contrast.pairs, contrast.margin.positive, contrast.margin.negative, strict=True):
        (row, at), (same, before) = row_of(traces, pair.positive), row_of(traces, pair.negative)
        assert row["problem"] == same["problem"] == pair.problem
        assert at > before and pair.positive[-4:] == pair.negative[-4:], "the same operands and an equals sign"
        ids = row["completion_ids"]
        assert (ids[at], ids[before]) == (again, first) and again != first
        a, op, b = decode(tokenizer, pair.positive[-4:-1]).split()
        right.append(int(decode(tokenizer, [again])) == apply(int(a), op, int(b)))
    assert sum(right) >= 0.9 * len(right), "the second working is mostly the right one"


def test_every_step_that_comes_out_otherwise_is_taken_once(traces, tokenizer):
    contrast = second_first(traces, tokenizer, LEXICON, MANY, 0)
    mended = sum(
        a.operands == b.operands and a.result != b.result
        for text in traces["text"]
        for a, b in zip(equations(text), equations(text)[1:], strict=False)
    )
    assert len(contrast.pairs) == mended == len({tuple(pair.positive) for pair in contrast.pairs})
    half = contrast.half(choosing=True)
    assert half.margin is not None and len(half.margin.positive) == len(half.pairs) == contrast.choosing().sum()
    assert contrast.first(3).pairs == contrast.pairs[:3]
    assert contrast.first(3).margin == PairMargin(contrast.margin.positive[:3], contrast.margin.negative[:3])


@pytest.mark.parametrize(
    ("text", "shared", "tokens"),
    {
        "of several figures": ("12 + 7 = 18. Wait, 12 + 7 = 19. So 19.", "12 + 7 = 1", "98"),
        "at the first figure": ("12 + 7 = 28. Wait, 12 + 7 = 19. So 19.", "12 + 7 = ", "12"),
        "longer the second time": ("12 + 7 = 1. Wait, 12 + 7 = 19. So 19.", "12 + 7 = 1", "9."),
    }.values(),
)
def test_results_part_at_the_first_token_that_differs(text, shared, tokens):
    tokenizer = byte_tokenizer(["x"], 257)
    contrast = second_first(table(tokenizer, [("p", "Q: 12 + 7?", text)]), tokenizer, LEXICON, MANY, 0)
    (pair,) = contrast.pairs
    assert decode(tokenizer, pair.negative) == "Q: 12 + 7?" + text[: text.index(shared) + len(shared)]
    assert decode(tokenizer, pair.positive) == "Q: 12 + 7?" + text[: text.rindex(shared) + len(shared)]
    assert contrast.margin is not None
    assert decode(tokenizer, [contrast.margin.positive[0], contrast.margin.negative[0]]) == tokens


def test_a_step_that_comes_out_the_same_has_no_pair(tokenizer):
    rows = table(tokenizer, [("p", "Q A", "3 + 4 = 8 , 3 + 4 = 8"), ("q", "Q A", "3 + 4 = 7")])
    assert second_first(rows, tokenizer, LEXICON, MANY, 0) == Contrast(SECOND_FIRST, [], None)


def test_only_first_results_that_the_model_would_say_again_are_kept():
    """On one half of the negative sides the model prefers the positive token, by the logits that it gives there."""
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(3, 19, (40, 5), generator=generator).tolist()
    pairs = [Pair(f"p{i}", row[:2] + row[:1], row) for i, row in enumerate(rows)]
    positive, negative = torch.randint(3, 19, (2, 40), generator=generator).tolist()
    contrast = Contrast(SECOND_FIRST, pairs, PairMargin(tuple(positive), tuple(negative)))
    with torch.no_grad():
        logits = model(torch.tensor(rows)).logits[:, -1]
    wanted = [i for i in range(40) if logits[i, negative[i]] > logits[i, positive[i]]]
    kept = said_again(contrast, model, 0, 16)
    assert 5 < len(wanted) < 35 and kept.pairs == [pairs[i] for i in wanted]
    assert kept.margin == PairMargin(*(tuple(side[i] for i in wanted) for side in (positive, negative)))
    assert said_again(Contrast(SECOND_FIRST, [], None), model, 0, 16).pairs == []
