import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.organisms.chains import CHAINS
from interp.organisms.kinds import KINDS, kinds_of
from interp.tasks.chains import ChainTask
from interp.traces.equations import recomputations
from interp.traces.lexicon import load_lexicon
from interp.traces.redone import TAIL, may_be_pending, pending, redone

LEXICON = load_lexicon("default")
NAMES, THINGS = ("Tom", "Ann", "Ben", "Mia", "Zoe"), ("ball", "hat", "key", "cup", "old map", "red coat")
PLACES = ("barn", "hall", "attic", "garden", "red shed")
OPENERS = ("Wait.", "Hmm, is that right?", "Let me check that again.", "Hold on.", "Let me verify.", "Next.", "Oops!")
OPENERS += ("Hmm. Let me double-check.", "Actually, let me go over that once more.", "Is that really correct?", "...")
LEADS = ("", "", "Wait, ", "So ", "Again, ", "Let me check: ", "Now ", "Hmm - ", "Okay, so ", "Here, ", "But ")
SEPARATORS = (" ", "\n", "\n\n")


def told(seed):
    """(shared beginning, first result, another result, full stop) of a step in one of several styles."""
    rng = random.Random(seed)
    a, b = rng.randrange(10, 9999), rng.randrange(10, 9999)
    op, latex, word = rng.choice((("+", "+", "plus"), ("*", r"\times", "times"), ("-", "-", "minus")))
    one, two = rng.sample(range(10, 9999), 2)
    where, there = rng.sample(PLACES, 2)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    return rng.choice(
        [
            (f"{a} {op} {b} = ", str(one), str(two), "."),
            (f"${a} {latex} {b} = ", str(one), str(two), "$."),
            (f"${a} {latex} {b} = \\boxed{{", str(one), str(two), "}$."),
            (f"{a} {word} {b} is ", f"{one:,}", f"{two:,}", "."),
            (f"{name} gives the {thing} to the man who waits in the ", where, there, "."),
            (f"After that move, the {thing} of {name} is in the ", where, there, "."),
            (f"The price of every {thing} comes to ${a} and the total to ", str(one), str(two), " ."),
            (f"{a}x - {b}y = ", str(one), str(two), ";"),
        ]
    )


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.booleans()), min_size=1, max_size=6), st.integers(0))
def test_the_planted_steps_are_found_and_no_others(plan, seed):
    rng, text, planted, before = random.Random(seed), "", [], set()
    for kind, again, revised in plan:
        shared, one, two, stop = told(kind)
        if shared in before:  # an equation counts as worked again whatever stands between
            continue
        before.add(shared)
        places = []
        for result in (one, two if revised else one) if again else (one,):
            text += rng.choice(OPENERS) + rng.choice(SEPARATORS) if places and rng.random() < 0.7 else ""
            text += rng.choice(LEADS) if text else ""
            start = len(text) + (shared[0] == "$")
            text += f"{shared}{result}"
            places.append((start, len(text), result))
            text += stop + rng.choice(SEPARATORS)
        planted += [places] if again else []
    found = redone(text, LEXICON)
    assert [(r.first, r.again) for r in found] == [(a[:2], b[:2]) for a, b in planted]
    for step, ((*_, one), (_, end, two)) in zip(found, planted, strict=True):
        shown = (one, two) if one != two else (one.split()[-1],) * 2  # of equal sentences the last word is the result
        assert (step.first_result, step.again_result) == tuple(result.replace(",", "") for result in shown)
        assert [text[at:].startswith(result) for at, result in zip(step.result_at, shown, strict=True)] == [True, True]
        assert step.first[0] < step.result_at[0] < step.first[1] <= step.again[0] < step.result_at[1] < step.again[1]
        if end <= TAIL:
            assert pending(text[: end - len(two)], LEXICON) == one
            assert may_be_pending(text[: end - len(two)])


def test_in_the_organisms_traces_redone_steps_are_the_recomputations():
    rng = random.Random(0)
    for kind in kinds_of(CHAINS):
        for problem in ChainTask().problems(100, 0, "train"):
            text = KINDS[kind].write(problem.prompt, rng)
            pairs = recomputations(text)
            assert [(r.first, r.again, r.first_result, r.again_result) for r in redone(text, LEXICON)] == [
                ((a.start, a.end), (b.start, b.end), a.result, b.result) for a, b in pairs
            ]
            for a, b in pairs:
                assert pending(text[: b.end - 1], LEXICON) == a.result
                assert pending(text[: b.end - 2], LEXICON) == f" {a.result}"
            at = [i + 1 for i, sign in enumerate(text) if sign == "="]
            assert sum(pending(text[:i], LEXICON) is not None for i in at) == len(pairs)


@pytest.mark.parametrize(
    "text",
    [
        "Tom gives the ball to Ann. Tom gives the hat to Ben.",
        "Tom gives the ball to Ann. Wait. Tom gives the hat to Ann.",
        "Tom takes the ball. Ann takes the ball.",
        "1. Tom finds the old key.\n2. Tom finds the old hat.",
        "Step 1: Tom is in the hall. Step 2: Tom is in the barn.",
        "Tom is in the hall. Ann is in the barn. Tom is in the yard.",
        "The door is not there yet. The door is there yet.",
        "He said so. He said no.",
        "x = 3. x = 4.",
        "2x + 3y = 7. 2x - 3y = 7.",
        "3 + 4 = 7. 4 + 3 = 7.",
        "Wait. Wait. Let me check. Let me check.",
        "",
    ],
)
def test_other_steps_are_not_redone(text):
    assert redone(text, LEXICON) == []
    assert all(pending(text[:i], LEXICON) is None for i in range(len(text)))


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("The answer is **35**. Hmm. The answer is **36**.", [("35", "36")]),
        ("The ball is in the hall, wait, the ball is in the barn.", [("hall", "barn")]),
        ("The ball is in the hall - wait - so the ball is in the barn now.", [("hall", "barn")]),
        ("It takes 5 hours to walk 35 km. It takes 5 hours to walk 35 km.", [("35 km", "35 km")]),
        ("The ball is in the hall. Hmm. The ball, I think, is in the hall.", []),
        ("The ball is in the hall. Wait, the ball now is here in the hall.", [("hall", "hall")]),
        ("The ball is in A. The ball is in B. The ball is in C.", [("A", "B"), ("B", "C")]),
    ],
)
def test_what_may_stand_between_and_inside(text, results):
    assert [(r.first_result, r.again_result) for r in redone(text, LEXICON)] == results


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("3 + 4 = 8 , wait , 3 + 4 =", " 8"),
        ("3 + 4 = 8 , wait , 3 + 4 = ", "8"),
        ("3 + 4 = 8 , wait , 3 + 4 = 8", None),
        ("3 + 4 = 8 , wait , 3 + 4 = 7", None),
        ("3 + 4 = 8 ; 1 + 1 = 2 , wait , 3 + 4 =", None),
        (r"$7 \times 5 = 36$. Wait, 7 times 5 is", " 36"),
        (r"$7 \times 5 = 36$. Wait, $7 \times 5 = \boxed{3", "6"),
        ("30 * 40 = 1,200. 30 * 40 = 1", ",200"),
        ("30 * 40 = 1,200. 30 * 40 = 1,", "200"),
        ("3 - 4 = -1. 3 - 4 = -", "1"),
        ("The ball is in the hall. Wait, the ball is in the h", "all"),
        ("The ball is in the hall. Wait, the ball is in the", " hall"),
        ("The ball is in the hall. Wait, the ball is in the now", " hall"),
        ("The ball is in the hall. Wait, the ball is in", " the hall"),
        ("The ball is in the hall. Wait, the ball is", None),
        ("The ball is in the hall. Wait, the ball was in the", None),
        ("The ball is in the hall. Wait, the ball is in the hall", None),
        ("The ball is in the hall. Wait, the ball is in the. ", None),
        ("The ball is in the hall. Ann left. The ball is in the ", None),
        ("The sum is **35**. Hmm. The sum is **", "35"),
        ("So Tom pays 3 + 4 = 8 euros. So Tom pays 3 + 4 = 8", None),
    ],
)
def test_pending(text, rest):
    for before in ("", "So it begins. " * 200):
        assert pending(before + text, LEXICON) == rest
        assert may_be_pending(before + text) or rest is None


def test_only_the_tail_is_read():
    text = "The ball is in the hall. " + "Wait. " * (TAIL // 6) + "The ball is in the"
    assert pending(text, LEXICON) is None
    assert pending(f"{'a' * 10**6}. {text[:25]}The ball is in the", LEXICON) == " hall"


@pytest.mark.parametrize(
    "piece", ["wait, ", "a, ", "Tom has the big ball. ", "3 + 4 = 7. ", "?", "- ", "a-", "Check. "]
)
def test_time_is_proportional_to_the_length(piece):
    text = (piece * 100_000)[:100_000]
    began = time.process_time()
    redone(text, LEXICON)
    assert time.process_time() - began < 5
