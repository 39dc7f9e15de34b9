"""Controls are matched on what decides the size of an edit, where it is made; control phrases are no content."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.causal.controls import CALLIPER, FREQUENCY, NEIGHBOURS, control_phrases, matched_latents, swapped_phrases
from interp.traces.lexicon import load_lexicon
from interp.traces.phrases import pattern

LEXICON = load_lexicon("default")


def latents(n=300, seed=0):
    rng = np.random.default_rng(seed)
    firing, size = np.exp(rng.normal(-4, 1.0, n)), np.exp(rng.normal(0, 0.5, n))
    firing[rng.random(n) < 0.1] = 0.0
    return firing, size


@given(seed=st.integers(0, 100), k=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_every_set_is_alive_as_large_not_barred_and_within_the_calliper(seed, k):
    firing, size = latents(seed=seed)
    rng = np.random.default_rng(seed)
    selected, *_ = np.split(rng.permutation(np.flatnonzero(firing)), [k])
    never = np.flatnonzero(firing)[::7].tolist()
    drawn = matched_latents(selected.tolist(), firing, size, 20, seed, never=never)
    wanted = size[selected].sum()
    for chosen in map(list, drawn.draws):
        assert len(set(chosen)) == k
        assert not set(chosen) & {*selected.tolist(), *never}
        assert (firing[chosen] > 0).all()
        assert wanted / CALLIPER <= size[chosen].sum() <= CALLIPER * wanted


@pytest.mark.parametrize("apart", ["size", "firing"])
def test_where_near_ones_exist_no_control_is_far_in_either(apart):
    """Two populations equal in one of the two and a hundred times apart in the other."""
    rng = np.random.default_rng(0)
    alike, two = rng.uniform(0.9, 1.1, 120), np.r_[rng.uniform(0.001, 0.0011, 60), rng.uniform(0.1, 0.11, 60)]
    firing, size = (alike / 100, two) if apart == "size" else (two, alike)
    for chosen in matched_latents([0, 70, 1, 71], firing, size, 40, 0).draws:
        assert [c < 60 for c in chosen] == [True, False, True, False]


def test_each_control_is_among_the_nearest_of_its_latent():
    firing, size = latents()
    alive = np.flatnonzero(firing > 0)
    spread = np.log(firing[alive]).std(), np.log(size[alive]).std()
    selected = alive[::40].tolist()
    drawn = matched_latents(selected, firing, size, 30, 1).draws
    assert drawn
    for chosen in drawn:
        for j, control in zip(selected, chosen, strict=True):
            distance = np.hypot(*(np.log(v[alive] / v[j]) / s for v, s in zip((firing, size), spread, strict=True)))
            rank = np.argsort(np.argsort(distance))[np.searchsorted(alive, control)]
            assert rank <= NEIGHBOURS + 2 * len(selected)


def test_sets_outside_the_calliper_are_redrawn_and_where_none_fits_the_note_says_so():
    """One neighbour in three is twenty times as large: sets that hold it are thrown away."""
    firing, size = np.full(40, 0.1), np.ones(40)
    size[::3] = 20.0
    drawn = matched_latents([1, 2], firing, size, 25, 0)
    assert len(drawn.draws) == 25
    assert all(j % 3 for chosen in drawn.draws for j in chosen)
    size[3:] = 20.0
    none = matched_latents([1, 2], firing, size, 25, 0)
    assert none.draws == [] and "no set of 2" in none.note and "factor 2" in none.note


def test_the_balance_is_reported():
    firing, size = np.full(60, 0.1), np.ones(60)
    firing[2:], size[2:] = 0.05, 0.75
    note = matched_latents([0, 1], firing, size, 20, 0).note
    assert "frequency 0.50, size 0.75" in note and "different latents of 58" in note
    size[5:] = 9.0
    short = matched_latents([0, 1], firing, size, 500, 0).note
    assert "of 500 draws within the calliper" in short


def test_a_latent_that_never_fires_where_edits_are_made_is_no_control_and_has_none():
    firing, size = np.full(30, 0.1), np.ones(30)
    firing[:10], size[10:20] = 0.0, 0.0
    drawn = {j for chosen in matched_latents([20, 21], firing, size, 50, 0).draws for j in chosen}
    assert drawn <= set(range(22, 30)) and len(drawn) > 5
    assert matched_latents([0], firing, size, 5, 0).draws == []


def test_draws_differ_and_are_the_same_for_the_same_seed():
    firing, size = latents()
    one, two, three = (matched_latents([1, 2, 3], firing, size, 20, seed).draws for seed in (5, 5, 6))
    assert one == two != three
    assert len(set(one)) > 10


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
