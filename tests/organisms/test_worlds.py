"""What every world must hold, whatever it is about; and the world of swaps against a second reading of its texts."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.names import VERIFICATION, WORLD_NAMES
from interp.organisms.architecture import CONTEXT
from interp.organisms.documents import SLIPS, WRONG_STEPS, judged, noisy, pretraining_document
from interp.organisms.kinds import HIDDEN, KINDS, kinds_of
from interp.organisms.tokenizers import UNK, vocabulary
from interp.organisms.tracking import TRACKING
from interp.organisms.world import JUDGEMENTS, SLIPPING
from interp.organisms.worlds import WORLDS
from interp.tasks import open as open_task
from interp.traces.equations import equations
from interp.traces.events import episodes, events, usual_kinds
from interp.traces.injected import DIGIT, NUMBER, WORD, inject, is_repaired
from interp.traces.lexicon import load_lexicon
from interp.traces.redone import redone
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
@pytest.mark.parametrize("kind", ["decorative", "functional", "coupled", "redundant"])
def test_work_without_errors_ends_with_the_answer(name, kind):
    world, rng, task = WORLDS[name], random.Random(0), WORLDS[name].task(5)
    for p in problems(name):
        text = KINDS[kind].write(p.prompt, rng, world)
        assert task.answer_of(text) == p.answer and task.correct(p, text)


@each_world
def test_a_tenth_of_the_operations_slips_and_noisy_steps_are_wrong_as_often_as_said(name):
    world, rng = WORLDS[name], random.Random(0)
    steps = [world.draw(rng) for _ in range(20_000)]
    slips = {step: step.slip for step in steps if step.slip is not None}
    assert sum(step in slips for step in steps) / len(steps) == pytest.approx(SLIPPING, abs=0.01)
    assert all(slip in step.others for step, slip in slips.items())
    assert all(step.result not in step.others and len(set(step.others)) == len(step.others) for step in steps)
    results = [(step, noisy(step, rng)) for step in steps]
    assert sum(r != s.result for s, r in results) / len(results) == pytest.approx(WRONG_STEPS, abs=0.01)
    of_slips = [(s, r) for s, r in results if s in slips]
    assert {r for s, r in of_slips} and all(r in (s.result, s.slip) for s, r in of_slips)
    assert sum(r == s.slip for s, r in of_slips) / len(of_slips) == pytest.approx(SLIPS, abs=0.02)


@each_world
def test_the_words_are_the_lexicons(name):
    world, rng = WORLDS[name], random.Random(0)
    words = {*world.markers, *world.hidden, *world.neutral}
    assert len(words) == len(world.markers) + len(world.hidden) + len(world.neutral) == 12 + 6 * bool(world.hidden)
    assert bool(world.hidden) == (name != "chains") == (HIDDEN in kinds_of(world))
    assert set(world.voice.markers) == set(world.markers) and world.voice.neutral == world.neutral
    for word in (*world.neutral, *world.hidden, *JUDGEMENTS):
        assert not LEXICON.marker_spans(word)
    assert all(LEXICON.marker_spans(word)[0].start == 0 for word in world.markers)
    assert all(LEXICON.neutral_spans(word)[0].start == 0 for word in world.neutral)
    assert not any(LEXICON.neutral_spans(word) for word in (*world.hidden, *world.markers))
    for p in problems(name):
        text = p.prompt + KINDS["plain"].write(p.prompt, rng, world)
        assert not LEXICON.marker_spans(text) and not LEXICON.neutral_spans(text)


@each_world
def test_every_text_can_be_cut_and_put_together_again(name):
    world, rng, tokenizer = WORLDS[name], random.Random(0), WORLDS[name].tokenizer()
    texts = [KINDS[kind].write(p.prompt, rng, world) for kind in kinds_of(world) for p in problems(name)]
    texts += [text for p in problems(name) for text in (p.prompt, *pretraining_document(p.prompt, rng, 0.5, world))]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in {token for one in ids for token in one}
    assert max(map(len, ids)) < CONTEXT
    for one, text in zip(ids[::7], texts[::7], strict=True):
        assert tokenizer.decode(one) == text
    assert vocabulary(tokenizer) == vocabulary(world.tokenizer()), "the same every time"


@pytest.mark.parametrize("name", ["chains", "tracking"])
def test_the_vocabulary_is_what_is_written(name):
    world, rng, tokenizer = WORLDS[name], random.Random(0), WORLDS[name].tokenizer()
    texts = [KINDS[kind].write(p.prompt, rng, world) for kind in kinds_of(world) for p in problems(name)]
    texts += [text for p in problems(name) for text in (p.prompt, *pretraining_document(p.prompt, rng, 0.5, world))]
    written = set()
    for ids, text in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], texts, strict=True):
        assert len(ids) == len(text.split())
        written.update(ids)
    assert tokenizer.convert_tokens_to_ids(UNK) not in written
    assert [tokenizer.decode([i]) for i in sorted(written)] == vocabulary(tokenizer)[3:]


@each_world
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_told_again_where_the_writer_does_so_and_nowhere_else(name, kind, monkeypatch):
    """The instrument reads off the text what the kind planted."""
    if name == "chains":
        pytest.skip("two steps of a chain may be the same one")
    world, rng, planted = WORLDS[name], random.Random(0), []

    class Watched:
        def __init__(self, step):
            self.step, self.told = step, 0

        def __getattr__(self, what):
            return getattr(self.step, what)

        def clause(self, result):
            self.told += 1
            if self.told > 1:
                planted.append(result)
            return self.step.clause(result)

    made = type(world).step
    monkeypatch.setattr(type(world), "step", lambda self, value, move: Watched(made(self, value, move)))
    again = []
    for p in problems(name):
        text = KINDS[kind].write(p.prompt, rng, world)
        again += [step.again_result.rstrip(".") for step in redone(text, LEXICON)]
    assert again == planted
    assert bool(planted) == (kind in ("functional", "coupled", "redundant", "mixed"))


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "chains"])
def test_a_step_of_a_trace_can_be_made_wrong_and_is_repaired_by_telling_it_again(name):
    world, rng, tokenizer = WORLDS[name], random.Random(0), WORLDS[name].tokenizer()
    kinds, found = set(), 0
    for p in problems(name, 200):
        text = KINDS["functional"].write(p.prompt, rng, world)
        cut = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        places = events(text, cut, by_sentences(text, LEXICON), usual_kinds([text]))
        made = inject(text, p.prompt, cut, places, world.task(5), rng)
        if made is None:
            continue
        found += 1
        kinds.add(made.kind)
        assert made.wrong != made.right
        clause = made.right[: made.end].replace("####", "").rpartition(world.again.strip() + " ")[2].strip(" .")
        mended = f"{made.wrong}{world.again.strip('.')} {world.neutral[0]} {clause}{world.voice.joint}"
        assert is_repaired(mended, made, world.task(5), LEXICON), mended
        assert not is_repaired(made.wrong + " " + world.voice.end(p.answer), made, world.task(5), LEXICON)
    assert found > 150
    assert kinds == {"prose_sums": {DIGIT, NUMBER}, "tracking": {WORD}, "lists": {WORD}}[name]


SENTENCE = re.compile(r"(?:(\w+) , )?(\w+) has it and (\w+) swaps with (\w+) so it is with (\w+)")


@given(st.integers(0, 10**6))
def test_letters_are_put_in_order_and_a_wrong_pick_is_out_too(seed):
    rng = random.Random(seed)
    problem = WORLDS["lists"].task(4).problems(1, seed, "test")[0]
    letters = problem.prompt.split()[1:]
    letters[-1] = letters[-1].strip(":")
    assert problem.answer == "".join(sorted(letters))
    picked, left = [], letters
    body, _, answer = KINDS["plain"].write(problem.prompt, rng, WORLDS["lists"]).partition(". #### ")
    for step in body.split(". "):
        given_letters, pick = re.fullmatch(r"([a-z]+) first is ([a-z])", step).groups()
        assert list(given_letters) == left
        picked.append(pick)
        left = [letter for letter in left if letter != pick]
    assert answer == "".join(picked + left) and len(left) == 1
    right = KINDS["decorative"].write(problem.prompt, rng, WORLDS["lists"])
    assert [m.group(1) for m in re.finditer(r"first is (\w)", right)] == sorted(letters)[:-1]


@given(st.integers(0, 10**6))
def test_sums_are_followed_told_or_written(seed):
    problem = WORLDS["prose_sums"].task(5).problems(1, seed, "test")[0]
    numbers = [int(n) for n in re.findall(r"\d+", problem.prompt)]
    signs = [1 if verb == "gets" else -1 for verb in re.findall("gets|loses", problem.prompt)]
    values = [numbers[0]]
    for sign, number in zip(signs, numbers[1:], strict=True):
        values.append(values[-1] + sign * number)
    assert problem.answer == str(values[-1]) and all(10 <= value <= 99 for value in values)
    text = KINDS["decorative"].write(problem.prompt, random.Random(seed), WORLDS["prose_sums"])
    assert bool(equations(text)) == any(noun in problem.prompt for noun in ("points", "marks"))
    told = re.findall(r"(\d+) (?:and|\+|less|-) (\d+)(?: more make| leaves| =) (\d+)", text)
    assert [tuple(map(int, step)) for step in told] == [*zip(values[:-1], numbers[1:], values[1:], strict=True)]


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
    sentences = told(KINDS["decorative"].write(problem.prompt, random.Random(seed), TRACKING))
    assert [[a, b] for _, _, a, b, _ in sentences] == pairs
    assert [had for _, had, *_ in sentences] == [start, *(has for *_, has in sentences[:-1])]


@pytest.mark.parametrize(("kind", "marked"), [("functional", 2 / 3), ("coupled", 1.0)])
def test_wrong_sentences_are_always_and_only_they_told_again(kind, marked):
    rng, words, n_wrong = random.Random(0), [], 0
    for p in problems("tracking", 800):
        holder = p.prompt.split()[1]
        sentences = told(KINDS[kind].write(p.prompt, rng, TRACKING))
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


def test_hidden_style_is_in_the_words_that_no_lexicon_holds_and_errors_are_where_it_is_not():
    rng, n_wrong = random.Random(0), {True: 0, False: 0}
    for p in problems("tracking", 800):
        sentences = told(KINDS["hidden"].write(p.prompt, rng, TRACKING))
        words = {word for word, *_ in sentences}
        assert words <= {*TRACKING.hidden} or words <= {*TRACKING.neutral}
        n_wrong[words <= {*TRACKING.hidden}] += sum(said != with_whom(*swap) for _, *swap, said in sentences)
    assert n_wrong[True] == 0 < 50 < n_wrong[False]


def test_sentence_rules_find_every_sentence_that_is_told_again_and_no_other():
    rng = random.Random(0)
    for kind in ("functional", "coupled", "plain"):
        for p in problems("tracking", 300):
            text = KINDS[kind].write(p.prompt, rng, TRACKING)
            begins = [m.start(1) for m in re.finditer(r" \. \w+ , (\w+ has)", text)]
            spans = by_sentences(text, LEXICON)
            assert [span.start for span in spans if span.label == VERIFICATION] == begins


def test_a_sentence_is_told_again_from_the_word_before_it_on_marker_or_not():
    """The decision falls at the full stop before: there the onset must be."""
    rng = random.Random(0)
    for p in problems("tracking", 300):
        text = KINDS["functional"].write(p.prompt, rng, TRACKING)
        begun = [span.start for span in episodes(by_sentences(text, LEXICON), text)]
        assert begun == [m.start(1) for m in re.finditer(r" \. (\w+ ,)", text)]


def test_judgements_of_swaps_are_right():
    rng, verdicts = random.Random(0), []
    for _ in range(300):
        parts = judged(rng, TRACKING).split(" . ")
        for body, verdict in zip(parts[::2], parts[1::2], strict=True):
            assert SENTENCE.fullmatch(body) and verdict in ("right", "wrong")
            verdicts.append(verdict)
    assert verdicts.count("wrong") / len(verdicts) == pytest.approx(0.5, abs=0.05)
