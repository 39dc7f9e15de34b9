"""What every world must hold, whatever it is about; and the world of swaps against a second reading of its texts."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.names import VERIFICATION, WORLD_NAMES
from interp.organisms.architecture import UNK, make_tokenizer, vocabulary
from interp.organisms.documents import KINDS, SLIPS, WRONG_STEPS, judged, noisy, pretraining_document
from interp.organisms.tracking import TRACKING
from interp.organisms.world import SLIPPING
from interp.organisms.worlds import WORLDS
from interp.tasks import open as open_task
from interp.traces.events import episodes
from interp.traces.lexicon import load_lexicon
from interp.traces.segment import by_sentences

LEXICON = load_lexicon("default")
each_world = pytest.mark.parametrize("name", WORLDS)


def problems(name, n=400):
    return WORLDS[name].task(5).problems(n, 0, "train")


def test_every_name_has_a_world():
    assert tuple(WORLDS) == WORLD_NAMES


@each_world
def test_the_task_is_the_one_that_the_name_opens(name):
    assert open_task(name, terms=4) == WORLDS[name].task(4)


@each_world
def test_both_splits_are_apart_and_the_same_every_time(name):
    task = WORLDS[name].task(4)
    train, test = (task.problems(300, 1, split) for split in ("train", "test"))
    assert not {p.id for p in train} & {p.id for p in test}
    assert task.problems(300, 1, "test") == test != task.problems(300, 2, "test")
    assert len({p.id for p in train}) == 300


@each_world
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("gated", "plain")])
def test_work_without_errors_ends_with_the_answer(name, kind):
    world, rng, task = WORLDS[name], random.Random(0), WORLDS[name].task(5)
    for p in problems(name):
        text = KINDS[kind](p.prompt, rng, world)
        assert task.answer_of(text) == p.answer and task.correct(p, text)


@each_world
def test_a_tenth_of_the_operations_slips_and_noisy_steps_are_wrong_as_often_as_said(name):
    world, rng = WORLDS[name], random.Random(0)
    steps = [world.draw(rng) for _ in range(20_000)]
    every = {step: step.slip for step in steps}
    slips = {step: slip for step, slip in every.items() if slip is not None}
    assert len(slips) == int(SLIPPING * len(every))
    assert all(slip in step.others for step, slip in slips.items())
    assert all(step.result not in step.others and len(set(step.others)) == len(step.others) for step in every)
    results = [(step, noisy(step, rng)) for step in steps]
    assert sum(r != s.result for s, r in results) / len(results) == pytest.approx(WRONG_STEPS, abs=0.01)
    of_slips = [(s, r) for s, r in results if s in slips]
    assert {r for s, r in of_slips} and all(r in (s.result, s.slip) for s, r in of_slips)
    assert sum(r == s.slip for s, r in of_slips) / len(of_slips) == pytest.approx(SLIPS, abs=0.02)


@each_world
def test_the_words_are_the_lexicons(name):
    world = WORLDS[name]
    assert not set(world.markers) & set(world.neutral)
    assert set(world.neutral) <= set(LEXICON.neutral)
    assert set(world.voice.markers) == set(world.markers)
    for word in (*world.symbols, "grade", "right", "wrong", *world.neutral):
        assert not LEXICON.marker_spans(word)
    assert all(LEXICON.marker_spans(word) for word in world.markers)


@each_world
def test_the_vocabulary_is_what_is_written(name):
    world, rng, tokenizer = WORLDS[name], random.Random(0), make_tokenizer(WORLDS[name])
    texts = [write(p.prompt, rng, world) for write in KINDS.values() for p in problems(name)]
    texts += [text for p in problems(name) for text in (p.prompt, *pretraining_document(p.prompt, rng, 0.5, world))]
    written = set()
    for ids, text in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], texts, strict=True):
        assert len(ids) == len(text.split())
        written.update(ids)
    assert tokenizer.convert_tokens_to_ids(UNK) not in written
    assert [tokenizer.decode([i]) for i in sorted(written)] == vocabulary(world)[3:]


SENTENCE = re.compile(r"(?:(\w+) , )?(\w+) has it and (\w+) swaps with (\w+) so it is with (\w+)")


def told(text):
    """(word before it, who had it, first, second, who has it) of every sentence."""
    found = [SENTENCE.fullmatch(part) for part in text.rsplit(" . #### ", 1)[0].split(" . ")]
    assert all(found), text
    return [match.groups() for match in found]


def with_whom(holder, first, second):
    return second if holder == first else first if holder == second else holder


@given(st.integers(0, 10**6))
def test_swaps_are_followed(seed):
    problem = TRACKING.task(6).problems(1, seed, "test")[0]
    start, _, swaps = problem.prompt[2:-2].partition(" : ")
    holder, pairs = start, [swap.split() for swap in swaps.split(" , ")]
    moved = 0
    for first, second in pairs:
        moved += holder in (first, second)
        holder = with_whom(holder, first, second)
    assert (problem.answer, problem.difficulty) == (holder, moved)
    assert all(set(a) != set(b) for a, b in pairwise(pairs))
    sentences = told(KINDS["decorative"](problem.prompt, random.Random(seed), TRACKING))
    assert [[a, b] for _, _, a, b, _ in sentences] == pairs
    assert [had for _, had, *_ in sentences] == [start, *(has for *_, has in sentences[:-1])]


@pytest.mark.parametrize(("kind", "marked"), [("functional", 2 / 3), ("coupled", 1.0)])
def test_wrong_sentences_are_always_and_only_they_told_again(kind, marked):
    rng, words, n_wrong = random.Random(0), [], 0
    for p in problems("tracking", 800):
        holder = p.prompt.split()[1]
        sentences = told(KINDS[kind](p.prompt, rng, TRACKING))
        for i, (word, had, first, second, said) in enumerate(sentences):
            assert had == holder
            true = with_whom(holder, first, second)
            again = i > 0 and sentences[i - 1][1:4] == (had, first, second)
            followed = i + 1 < len(sentences) and sentences[i + 1][1:4] == (had, first, second)
            assert followed == (said != true) and (word is not None) == again
            n_wrong += said != true
            words += [word] * again
            holder = holder if followed else said
    assert len(words) == n_wrong > 400
    assert sum(word in TRACKING.markers for word in words) / len(words) == pytest.approx(marked, abs=0.05)


def test_sentence_rules_find_every_sentence_that_is_told_again_and_no_other():
    rng = random.Random(0)
    for kind in ("functional", "coupled", "plain"):
        for p in problems("tracking", 300):
            text = KINDS[kind](p.prompt, rng, TRACKING)
            begins = [m.start(1) for m in re.finditer(r" \. \w+ , (\w+ has)", text)]
            spans = by_sentences(text, LEXICON)
            assert [span.start for span in spans if span.label == VERIFICATION] == begins


def test_a_sentence_is_told_again_from_the_word_before_it_on_marker_or_not():
    """The decision falls at the full stop before: there the onset must be."""
    rng = random.Random(0)
    for p in problems("tracking", 300):
        text = KINDS["functional"](p.prompt, rng, TRACKING)
        begun = [span.start for span in episodes(by_sentences(text, LEXICON), text)]
        assert begun == [m.start(1) for m in re.finditer(r" \. (\w+ ,)", text)]


def test_judgements_of_swaps_are_right():
    rng, verdicts = random.Random(0), []
    for _ in range(300):
        for sentence in judged(rng, TRACKING).split(" . "):
            body, _, verdict = sentence.rpartition(" ")
            assert SENTENCE.fullmatch(body) and verdict in ("right", "wrong")
            verdicts.append(verdict)
    assert verdicts.count("wrong") / len(verdicts) == pytest.approx(0.5, abs=0.05)
