"""Control phrases are as frequent as the removed ones, and no content."""

from dataclasses import replace

import numpy as np
import pytest

from interp.causal.controls import FREQUENCY, control_phrases, swapped_phrases
from interp.traces.lexicon import load_lexicon
from interp.traces.phrases import pattern

LEXICON = load_lexicon("default")


SAID = ["Wait, so. Hmm, then. But maybe not. Wait again."] * 5
MARKERS = tuple(LEXICON.class_of)


def test_markers_stand_for_markers_that_occur_and_never_all_of_them():
    drawn = swapped_phrases(SAID, MARKERS, 39, 0)
    said = {"wait", "hmm", "but", "maybe"}
    assert len(set(drawn.draws)) == len(drawn.draws) == 2 ** len(said) - 2
    assert {phrase for part in drawn.draws for phrase in part} == said
    assert all(0 < len(part) < len(said) for part in drawn.draws)
    assert "14 parts of the 4 removed phrases that occur" in drawn.note
    five = swapped_phrases(SAID, MARKERS, 5, 0).draws
    assert five == drawn.draws[:5] != swapped_phrases(SAID, MARKERS, 5, 1).draws


def test_of_many_markers_random_parts_stand_for_all():
    names = tuple(f"word{chr(97 + i)}" for i in range(20))
    drawn = swapped_phrases([" ".join(names)], names, 39, 0).draws
    assert len(set(drawn)) == 39 and all(0 < len(part) < 20 for part in drawn)
    assert {name for part in drawn for name in part} == set(names)


@pytest.mark.parametrize("text", ["nothing", "wait"])
def test_a_single_marker_has_no_other_to_stand_for_it(text):
    drawn = swapped_phrases([text], MARKERS, 39, 0)
    assert drawn.draws == [] and "none can stand for another" in drawn.note


PROSE = [
    "Now Ann buys the apples. The shop sells them for the price of the pears. Then the total is 12. Wait, the pears. "
    "Next she pays. Here the change is 3. Then it is done. So the answer is 3. Also the bag. Further she goes. "
    "Below is the sum. Onward."
] * 20
PROMPTS = ["Ann buys apples and pears at a shop. What is the price?"] * 20


def total(texts, words):
    return sum(len(pattern(words).findall(text)) for text in texts)


def test_control_phrases_on_prose_with_a_rare_marker_are_no_common_words():
    """One marker in some seventy words: a control of common words would destroy the text."""
    drawn = control_phrases(PROSE, PROMPTS, LEXICON, ["wait"], 20, 0)
    assert drawn.draws
    common = {"the", "of", "is", "it", "ann", "apples", "pears", "shop", "price", "total", "sum", "wait"}
    wanted = total(PROSE, ["wait"])
    for phrases in drawn.draws:
        assert not common & set(phrases)
        assert wanted / FREQUENCY <= total(PROSE, phrases) <= FREQUENCY * wanted
    assert len(set(drawn.draws)) == len(drawn.draws)
    ratio = np.median([total(PROSE, phrases) for phrases in drawn.draws]) / wanted
    assert f"{ratio:.2f} times as frequent" in drawn.note


def test_control_phrases_are_no_markers_no_removed_and_no_mathematical_words():
    texts = ["Maybe now. Plus next. However then. Ought now. Times then. Hence next here."] * 30
    drawn = control_phrases(texts, ["Q"], LEXICON, ["wait", "hence"], 50, 0)
    used = {word for phrases in drawn.draws for word in phrases}
    assert used <= {"now", "next", "then", "here", "ought"}
    barred = {"maybe", "however", "hence", "plus", "times"}
    assert not used & barred


def test_words_of_the_prompt_are_content():
    texts = ["Now then next here. Wait."] * 30
    with_prompt = control_phrases(texts, ["now then"], LEXICON, ["wait"], 50, 0).draws
    assert {w for phrases in with_prompt for w in phrases} == {"next", "here"}


def test_where_no_words_are_as_frequent_there_are_no_controls():
    texts = ["wait wait wait wait wait wait wait wait wait wait now."] * 10
    drawn = control_phrases(texts, ["Q"], LEXICON, ["wait"], 20, 0)
    assert drawn.draws == [] and "no replaceable words are as frequent as the 100" in drawn.note
    bare = replace(LEXICON, neutral=())
    assert control_phrases(["wait"], ["Q"], bare, ["wait"], 20, 0).draws == []


def test_the_same_seed_draws_the_same_phrases():
    one, two, three = (control_phrases(PROSE, PROMPTS, LEXICON, ["wait"], 10, seed).draws for seed in (1, 1, 2))
    assert one == two != three
