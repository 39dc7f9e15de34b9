import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.traces.phrases import canonical, pattern, words

ALPHABET = st.sampled_from("aBtWé\u0301 '’-‐_\n\t等我7ſßİ")


def found(phrases, text):
    return [m.group() for m in pattern(map(canonical, phrases)).finditer(text)]


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("await checkmate recheck waiting", []),
        ("wait2 2wait", []),
        ("wait's d'wait wait’s", []),
        ("wait_time pre_wait", []),
        ("wait-and-see re-wait wait‑and", []),
        ("_Wait_ __wait__ *wait* 'wait' ‘wait’ “wait”", ["Wait", "wait", "wait", "wait", "wait", "wait"]),
        ("wait--no wait—no wait–no -wait wait- no", ["wait"] * 5),
        ("wait... WAIT! (wAiT)", ["wait", "WAIT", "wAiT"]),
        ("wait\u0301 wai\u0301t", []),
        ("\u00a0wait\u2028wait\ufeffwait", ["wait"] * 3),
    ],
)
def test_whole_words_of_a_spaced_script(text, hits):
    """A combining accent makes another letter; a hyphen, an underscore or an apostrophe joins only two letters."""
    assert found(["wait"], text) == hits


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("等等 wait 我", ["等等", "wait"]),
        ("wait我", ["wait"]),
        ("等等wait我", ["等等", "wait"]),
        ("我等等再说", ["等等"]),
        ("ちょっとwaitです", ["wait"]),
        ("รอwaitก่อน", ["wait"]),
        ("wait는 기다려", []),
        ("waitда", []),
        ("ну wait, да", ["wait"]),
        ("ｗａｉｔ", []),
    ],
)
def test_scripts_without_spaces_end_a_word_and_other_scripts_do_not(text, hits):
    assert found(["wait", "等等"], text) == hits


@pytest.mark.parametrize(
    "spelled", ["let me check", "Let  me\tcheck", "let me\n check", "LET ME \r\n CHECK", "let\u00a0me check"]
)
def test_white_space_inside_a_phrase_may_hold_one_line_break(spelled):
    assert found(["let me check"], f"so {spelled}.") == [spelled]


@pytest.mark.parametrize("spelled", ["letme check", "let me\n\ncheck", "let. me check", "let me-check"])
def test_a_paragraph_or_a_stop_ends_a_phrase(spelled):
    assert found(["let me check"], spelled) == []


@pytest.mark.parametrize("spelled", ["let's see", "let’s see", "Letʼs See", "let＇s\nsee"])
def test_every_apostrophe_is_an_apostrophe(spelled):
    for listed in ("let's see", "let’s see"):
        assert found([listed], spelled) == [spelled]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same(form):
    text = unicodedata.normalize(form, "Réfléchissons, déjà-vu.")
    for listed in ("NFC", "NFD"):
        phrases = [unicodedata.normalize(listed, p) for p in ("réfléchissons", "déjà‑vu")]
        assert [canonical(hit) for hit in found(phrases, text)] == ["réfléchissons", "déjà-vu"]


def test_phrases_that_are_no_words_need_no_space_about_them():
    assert found(["...", "✓ ok"], "hm...ok ✓ ok ✓ oks") == ["...", "✓ ok"]
    assert found([], "anything") == []


@given(st.text(ALPHABET, max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_canonical_form_is_its_own(text):
    assert canonical(canonical(text)) == canonical(text)


@given(st.text(ALPHABET, min_size=1, max_size=8), st.sampled_from([" ", "\n", "  ", ", "]))
@settings(max_examples=200, deadline=None)
def test_a_phrase_standing_alone_is_found_in_its_every_spelling(phrase, edge):
    """Also of letters whose lower case is longer, as İ: what the lexicon lists is found where it is written so."""
    if canonical(phrase):
        listed = canonical(phrase)
        for text in (listed, unicodedata.normalize("NFD", listed)):
            assert found([phrase], f"{edge}{text}{edge}")[:1] == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wait, let’s see: 3+4 = 7.", ["wait", "let's", "see", "3", "4", "7"]),
        ("re-check 'quoted' snake_case", ["re", "check", "quoted", "snake", "case"]),
        ("e\u0301te\u0301 Ünïcode", ["été", "ünïcode"]),
        ("等等wait", ["等", "等", "wait"]),
        ("... — ✓", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected
