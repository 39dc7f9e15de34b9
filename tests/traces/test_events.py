import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import byte_tokenizer

from interp.names import REFLECTION, VERIFICATION
from interp.organisms.chains import CHAINS
from interp.organisms.kinds import KINDS, kinds_of
from interp.tasks.chains import ChainTask
from interp.traces.events import COMMON, Event, common_kinds, episodes, events, onsets, places, usual_kinds
from interp.traces.labels import token_offsets
from interp.traces.lexicon import Span, load_lexicon
from interp.traces.segment import by_construction, by_sentences
from interp.traces.tokens import decode, encode

LEXICON = load_lexicon("default")
ORGANISM = "7 + 5 = 3 , wait , 7 + 5 = 2 ; 2 - 3 = 9 #### 9"
RESULTS = frozenset({"= 0"})


def tiled(tokens):
    """Characters of tokens that are written one after another."""
    return list(pairwise(accumulate(map(len, tokens), initial=0)))


def words(text):
    """Characters of one token for each word and the space before it."""
    first, *others = text.split(" ")
    return tiled([first, *(f" {word}" for word in others)])


def span(text, part, label="check"):
    """Where a part of a text that occurs once is."""
    (start,) = (i for i in range(len(text)) if text.startswith(part, i))
    return Span(start, start + len(part), label)


def brief(found):
    return [(event.token, event.behaviour) for event in found]


def test_the_two_events_of_a_short_trace():
    spans = by_construction(ORGANISM)
    assert onsets(ORGANISM, words(ORGANISM), spans) == [Event(4, "= 0", REFLECTION)]
    assert events(ORGANISM, words(ORGANISM), spans, RESULTS) == [Event(4, "= 0", REFLECTION), Event(18, "= 0", None)]
    assert [event.is_onset for event in events(ORGANISM, words(ORGANISM), spans, RESULTS)] == [True, False]


def test_in_the_organisms_traces_events_are_the_results_of_first_workings(tokenizer):
    rng, seen = random.Random(0), []
    for kind in kinds_of(CHAINS):
        for problem in ChainTask().problems(60, 0, "train"):
            text = KINDS[kind].write(problem.prompt, rng)
            offsets, spelled = token_offsets(tokenizer, encode(tokenizer, text)), text.split()
            results = [i + 1 for i, word in enumerate(spelled) if word == "="]
            worked = [None, *(spelled[i - 4 : i - 1] for i in results), None]
            expected = [
                (i, REFLECTION if step == after else None)
                for i, before, step, after in zip(results, worked, worked[1:], worked[2:], strict=False)
                if step != before
            ]
            spans = by_construction(text)
            assert brief(events(text, offsets, spans, RESULTS)) == expected
            assert common_kinds(onsets(text, offsets, spans)) <= RESULTS
            seen += [behaviour for _, behaviour in expected]
    assert seen.count(REFLECTION) > 50 and seen.count(None) > 500


@pytest.mark.parametrize(
    ("tokens", "check", "kinds", "expected"),
    [
        ("So| 7| +| 5| =| |1|3|,| wait|.", ", wait.", {"= 0"}, [(7, "check")]),
        ("7|+|5|=|1|2|;|1|+|1|=|2|;", None, {"= 0"}, [(5, None), (11, None)]),
        ("So| it| is|.\n\n|Wait|.| No|.", "Wait.", {"a ."}, [(3, "check")]),
        ("So| it| is|.\n\n|Wait|.| No|.\n\n|Ann", "Wait.", {". \n"}, [(3, "check"), (7, None)]),
        ("It| is|.|\n\n|Wait|.| No|.|\n\n|Ann", "Wait.", {"a ."}, [(3, "check"), (7, None)]),
        ("A| cup|.| Wait| no|.| Tom|.", " Wait no.", {"a ."}, [(2, "check")]),
        ("A| cup|.|  |Wait| no|.| Tom|.| Ann", "  Wait no.", {"a ."}, [(3, "check"), (8, None)]),
        ("A| cup|.| No|:| A| hat|.| Tom|.| Ann", "A hat", {"a ."}, [(2, None), (4, "check"), (9, None)]),
        ("1|+|1|=|2|.| Wait|.| So|.", " Wait.", {"= 0", "0 ."}, [(5, "check")]),
    ],
    ids=[
        "a number in digits",
        "forks behind numbers in digits",
        "a line break in the full stop's token",
        "forks behind such tokens",
        "a line break in a token of its own",
        "spaces lead tokens",
        "spaces in a token of their own",
        "a span without its full stop",
        "a result before a full stop before a behaviour",
    ],
)
def test_tokens_that_are_parts_of_words_or_more(tokens, check, kinds, expected):
    tokens = tokens.split("|")
    text = "".join(tokens)
    assert brief(events(text, tiled(tokens), [span(text, check)] if check else [], frozenset(kinds))) == expected


def test_prose_by_the_labels_of_its_sentences():
    text = "Tom is in the hall. He has 12 hats. Wait, is he in the hall? Tom is in the yard. So we go on. It ends."
    spans, offsets = by_sentences(text, LEXICON), words(text)
    assert common_kinds(onsets(text, offsets, spans)) == {"a ."}
    found = events(text, offsets, spans, frozenset({"a .", "a ?"}))
    assert [(text[: offsets[e.token][1]].split()[-1], e.kind, e.behaviour) for e in found] == [
        ("hall.", "a .", None),
        ("hats.", "a .", REFLECTION),
        ("yard.", "a .", None),
        ("on.", "a .", None),
    ]


def test_no_fork_is_right_behind_a_step_that_is_worked_again():
    text = "The ball is in the hall. The ball is in the yard. Tom goes home. Ann sleeps."
    spans, offsets = by_sentences(text, LEXICON), words(text)
    assert [text[s.start : s.end] for s in spans] == ["The ball is in the yard"]
    found = events(text, offsets, spans, frozenset({"a ."}))
    assert [(text[: offsets[e.token][1]].split()[-1], e.behaviour) for e in found] == [
        ("hall.", VERIFICATION),
        ("home.", None),
    ]


BYTES = byte_tokenizer(["Wait, so 12 cups. No, 5 + 7 = 12.\n\nSo it is 12.\n\n"] * 5, vocab_size=330)
SPEECH = [
    "Wait, so 12 cups. No, 5 + 7 = 12.\n\nSo it is 12.",
    "汤姆在大厅。等等，他在花园！🙂 他走了。",
    "  naïve café — “no” … 5 − 3 = −2 ✓\n\n\tso",
]


@pytest.mark.parametrize("text", SPEECH)
def test_the_tokens_before_a_place_spell_the_text_before_it(text):
    ids = encode(BYTES, text)
    found = places(text, token_offsets(BYTES, ids))
    assert len(found) > 5
    for place in found:
        before = decode(BYTES, ids[: place.token + 1])
        assert text.startswith(before)
        assert len(before) <= place.after and not text[len(before) : place.after].strip(" \t")


def test_a_character_of_several_tokens_is_read_whole_before_it():
    text = "大厅。等等。走了。"
    ids = encode(BYTES, text)
    assert len(ids) == 3 * len(text)
    found = events(text, token_offsets(BYTES, ids), [span(text, "等等。")], frozenset({"a 。"}))
    assert [(decode(BYTES, ids[: event.token + 1]), event.behaviour) for event in found] == [("大厅。", "check")]
    found = events(text, token_offsets(BYTES, ids), [], frozenset({"a 。"}))
    assert [decode(BYTES, ids[: event.token + 1]) for event in found] == ["大厅。", "大厅。等等。"]


def test_chinese_full_stops():
    text = "汤姆在大厅。等等，汤姆在花园！他走了。再见"
    offsets = tiled(text)
    assert brief(events(text, offsets, [span(text, "等等，汤姆在花园！")], frozenset({"a 。"}))) == [
        (5, "check"),
        (18, None),
    ]


def test_a_behaviour_at_the_beginning_or_in_the_middle_of_a_token_has_no_onset():
    text = "Wait no. So 12 cups. Wait."
    for tokens, part in [
        (["Wait", " no", ". So 12 cups. Wait."], "Wait no."),
        (["Wa", "it", " no", ". So 12 cups. Wait."], "Wait no."),
        (["Wait no. So 12 cups. Wa", "it."], " Wait."),
        (["Wait no. So 12 cups", ". Wait", "."], " Wait."),
        (["Wait no. So 1", "2 cups", ". Wait", "."], "2 cups"),
        (["Wait no. So 12 cups. Wait."], "So 12 cups"),
    ]:
        assert onsets(text, tiled(tokens), [span(text, part)]) == []
    assert onsets(f" {text}", tiled([" ", *text]), [Span(0, 9, "check")]) == []
    assert events("", [], [], frozenset({"a"})) == []
    assert [place.token for place in places("a b c", tiled(["a", " b"]))] == [0], "no token comes after the last place"


def test_text_of_a_behaviour_without_an_onset_has_no_forks_either():
    text = "Wait no. No. Tom. So."
    found = events(text, words(text), [span(text, "Wait no. No.")], frozenset({"a ."}))
    assert brief(found) == [(3, None)]


def test_adjacent_spans_are_one_episode_with_the_label_of_the_first():
    text = "a b c d e"
    late, first, inner, apart = Span(4, 6, "late"), Span(1, 3, "first"), Span(1, 2, "inner"), Span(8, 9, "apart")
    assert episodes([apart, late, inner, first], text) == [Span(2, 6, "first"), apart]
    assert episodes([Span(0, 5, "long"), Span(2, 3, "short")], text) == [Span(0, 5, "long")]
    assert episodes([Span(0, 3, "one"), Span(0, 3, "two")], text) == [Span(0, 3, "one")]
    assert episodes([], text) == []
    assert onsets(text, words(text), [late, first]) == [Event(0, "a", "first")]
    sentence = "So. Hmm, let me verify. Done."
    spans = [span(sentence, " Hmm, let me verify.", label) for label in (VERIFICATION, REFLECTION)]
    assert brief(onsets(sentence, words(sentence), spans)) == [(0, VERIFICATION)]


def test_kinds_rarer_than_common_do_not_count():
    usual, rare, fork = Event(1, "= 0", "check"), Event(1, "a .", "check"), Event(1, "0 ;", None)
    most = round(1 / COMMON) - 1
    assert common_kinds([usual] * most + [rare] + [fork] * 50) == {"= 0", "a ."}
    assert common_kinds([usual] * (most + 1) + [rare]) == {"= 0"}
    assert common_kinds([fork]) == common_kinds([]) == frozenset()
    text = "7 + 5 = 2 . so . so . 1 + 1 = 2 ; so"
    assert brief(events(text, words(text), [], frozenset({"= 0"}))) == [(4, None), (14, None)]
    assert events(text, words(text), [], frozenset()) == []


@pytest.mark.parametrize("minus", "-−")
def test_a_negative_result_has_the_kind_of_other_results(minus):
    text = f"5 {minus} 8 = {minus}3 ; 5 {minus}3 = 2 ; (5) {minus}3 = 2 ; 5{minus}3 = {minus}1.5 so"
    offsets = words(text)
    ends = [text[: offsets[event.token][1]] for event in events(text, offsets, [], RESULTS)]
    assert [end.split()[-1] for end in ends] == [f"{minus}3", "2", "2", f"{minus}1.5"]
    found = {text[: offsets[place.token][1]]: place.kind for place in places(text, offsets)}
    assert found[f"5 {minus} 8"] == found[f"{ends[0]} ; 5 {minus}3"] == f"{minus} 0"


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (["7 + 5 = 2 ; 2 - 3 = -1 #### 9. So."], {"= 0"}),
        (["So. No. 3 + 4 = 7. Ann."], {"= 0"}),
        ([r"$3 + 4 = \boxed{7}$. Ann."], {"{ 0"}),
        (["3 + 4 = 1,200 so"], {"= 0"}),
        (["Tom left. He has 12 hats! So 12? No"], {"a .", "a !", "0 ?"}),
        (["Tom left\nHe left\n\nSo"], {"a \n"}),
        (["汤姆在大厅。等等；他走了…再见"], {"a 。", "a ；", "a …"}),
        (["Tom left."], set()),
        (["Tom left", "3 + 4 = 7"], set()),
        (["Tom has 3.5 hats"], set()),
        ([], set()),
        (["3 + 4 = 7. Ann"] * 19 + ["3 + 4 is 7. Ann"], {"= 0", "a 0"}),
        (["3 + 4 = 7. Ann"] * 20 + ["3 + 4 is 7. Ann"], {"= 0"}),
        (["So. A"] * 20 + ["So! A"], {"a ."}),
    ],
)
def test_usual_kinds(texts, kinds):
    assert usual_kinds(texts) == kinds


UNITS = st.lists(
    st.sampled_from(["wait", "no", "12", "3.5", "=", "+", ".", "。", ",", "####"]), min_size=1, max_size=20
)


@given(units=UNITS, data=st.data())
def test_invariants(units, data):
    """The places of a text of known units and tokens, found by trying every boundary; then its events."""
    text, shapes, edges = "", [], []
    for unit in units:
        text += data.draw(st.sampled_from([" ", "  "])) if text else ""
        for part in unit if unit == "####" else [unit]:
            edges.append((len(text), len(text) + len(part)))
            shapes.append("0" if part[0].isdigit() else "a" if part.isalpha() else part)
            text += part
    cuts = data.draw(st.sets(st.integers(1, max(1, len(text) - 1))))
    bounds = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    offsets = list(pairwise(bounds))
    expected = {
        edges[i][0]: (max(between) - 1, " ".join(shapes[max(0, i - 2) : i]))
        for i in range(1, len(edges))
        if (between := [k for k, b in enumerate(bounds[:-1]) if k and edges[i - 1][1] <= b <= edges[i][0]])
    }
    found = places(text, offsets)
    assert {place.after: (place.token, place.kind) for place in found} == expected

    drawn = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 8), st.sampled_from("xy"))
    spans = [Span(a, min(a + n, len(text)), label) for a, n, label in data.draw(st.lists(drawn, max_size=3))]
    spans = [span for span in spans if text[span.start : span.end].strip()]
    kinds = frozenset(data.draw(st.sets(st.sampled_from(sorted({place.kind for place in found} | {"= 0"})))))
    begun, both = onsets(text, offsets, spans), events(text, offsets, spans, kinds)
    tokens = [event.token for event in both]
    assert tokens == sorted(set(tokens)) and all(0 <= token < len(offsets) - 1 for token in tokens)
    assert [event for event in both if event.is_onset] == begun
    assert {event.token for event in begun} <= {place.token for place in found}
    assert len(begun) <= len(spans) and all(event.behaviour in "xy" for event in begun)
    forks = {event.token for event in both if not event.is_onset}
    assert forks == {place.token for place in found if place.kind in kinds and _is_apart(text, place.after, spans)}


def _is_apart(text, after, spans):
    """Whether a letter or digit is between a place and every span."""
    gaps = [text[span.end : after] if span.start < after else text[after : span.start] for span in spans]
    return all(any(sign.isalnum() for sign in gap) for gap in gaps)
