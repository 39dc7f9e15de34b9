import pytest

from interp.organisms.chains import MARKERS
from interp.organisms.kinds import KINDS
from interp.tasks.chains import ChainTask
from interp.traces.announcements import announcements
from interp.traces.events import events, usual_kinds
from interp.traces.lexicon import load_lexicon
from interp.traces.segment import by_construction, by_sentences

LEXICON = load_lexicon("default")


def words(text):
    """Characters of each word, with the space before it."""
    offsets, at = [], 0
    for piece in text.split(" "):
        offsets.append((max(0, at - 1), at + len(piece)))
        at += len(piece) + 1
    return offsets


def read(texts, label=by_construction, offsets=words):
    tokens = [offsets(text) for text in texts]
    kinds = usual_kinds(texts)
    found = [events(text, where, label(text), kinds) for text, where in zip(texts, tokens, strict=True)]
    forks = [[event.token for event in one if not event.is_onset] for one in found]
    return announcements(texts, forks, LEXICON, tokens)


def traces(kind, n=400):
    import random

    rng = random.Random(0)
    return [KINDS[kind].write(p.prompt, rng) for p in ChainTask().problems(n, 0, "train")]


def test_an_organisms_markers_stand_with_their_comma_and_steps_begin_after_a_semicolon():
    found = read(traces("functional"))
    assert set(found.phrases) == {f" {word} ," for word in MARKERS}
    assert found.joints == (";",), "what opens a recomputation begins no step"


def test_as_many_are_written_as_there_were():
    texts = traces("functional")
    found = read(texts)
    markers = sum(len(LEXICON.marker_spans(text)) for text in texts)
    # Joints between two forks: those beside a recomputation are not counted.
    starts = sum(text.count(" ; ") for text in texts)
    assert markers / starts < found.rate < 2.5 * markers / starts


def test_prose():
    text = "First we add. Wait, that is 5. Then we take 2. So it is 3. Done here."
    characters = [(i, i + 1) for i in range(len(text))]
    forks = [[i for i, c in enumerate(text) if c == "."][:-1]]
    found = announcements([text], forks, LEXICON, [characters])
    assert found.phrases == (" Wait,",)
    assert found.joints == ("",)
    assert found.rate == pytest.approx(1 / 3)


def test_a_marker_that_begins_a_text_is_not_spelled_without_its_space():
    first = "check , 3 + 4 = 7 ; 7 + 1 = 8 ; wait , 8 + 1 = 9 ; 9 + 1 = 0"
    found, other = read([first]), read([first.removeprefix("check , ")])
    assert found == other and found.phrases == (" wait ,",)


def test_what_a_vocabulary_cannot_write_is_left_out():
    found = read(traces("functional"))
    kept = found.spelled(lambda phrase: None if "wait" in phrase else [1])
    assert set(kept.phrases) == set(found.phrases) - {" wait ,"} and (kept.joints, kept.rate) == (
        found.joints,
        found.rate,
    )
    assert found.spelled(lambda phrase: None) is None


def test_nothing_without_markers_or_without_steps():
    assert read(traces("plain")) is None
    assert announcements(["wait , 5"], [[]], LEXICON, [words("wait , 5")]) is None
    assert read(["Wait. Hmm."], lambda text: by_sentences(text, LEXICON)) is None
