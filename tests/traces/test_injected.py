import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.organisms.documents import functional, plain, result_of
from interp.tasks.chains import ChainTask
from interp.tasks.questions import QuestionTask
from interp.traces.equations import equations, recomputations
from interp.traces.events import Event, events
from interp.traces.injected import DIGIT, KINDS, NUMBER, OPERAND, SIGN, WORD, Injected, inject, is_repaired
from interp.traces.lexicon import load_lexicon
from interp.traces.measure import equal
from interp.traces.segment import by_construction, by_sentences

LEXICON = load_lexicon("default")
CHAINS, SUMS = ChainTask(), QuestionTask()


def tokens(text):
    """Characters of tokens that are a digit, a word or a sign each, with the spaces before and line breaks after it."""
    return [match.span() for match in re.finditer(r" *(?:\d|[^\W\d]+|[^\w\s])\n*", text)]


def injected(text, task=SUMS, kinds=KINDS, seed=0, prompt="", spans=(), places=frozenset({"= 0"})):
    """An error in a text that has forks at places of these kinds."""
    offsets = tokens(text)
    found = events(text, offsets, spans, frozenset(places))
    return inject(text, prompt, offsets, found, task, random.Random(seed), kinds)


def at_its_end(text, task, kinds=KINDS, seed=0):
    """An error in a text with one fork, at its end."""
    offsets = tokens(text)
    return inject(text, "", offsets, [Event(len(offsets) - 1, "0", None)], task, random.Random(seed), kinds)


def holds(equation, task):
    return equal(task.true_result(*equation.binary), equation.result)


def check(found, text, task):
    """The two prefixes: one event, one changed step, right and wrong; returns the step's equation in either."""
    assert found.right == text[: tokens(text)[found.token][1]]
    assert found.wrong != found.right
    tail = len(found.right) - found.end
    assert found.wrong[: found.start] == found.right[: found.start]
    assert found.wrong[len(found.wrong) - tail :] == found.right[found.end :]
    right, wrong = equations(found.right)[-1], equations(found.wrong)[-1]
    assert (right.start, right.end) == (found.start, found.end) and wrong.start == found.start
    assert holds(right, task) and not holds(wrong, task)
    a, sign, b = right.binary
    expected = {
        DIGIT: (wrong.binary == right.binary, wrong.result != right.result),
        SIGN: (wrong.binary == (a, wrong.binary[1], b) != right.binary, wrong.result == right.result),
        OPERAND: (wrong.binary == (a, sign, wrong.binary[2]) != right.binary, wrong.result == right.result),
    }
    assert all(expected[found.kind])
    assert sum(one != two for one, two in zip(found.right, found.wrong, strict=True)) == 1
    return right, wrong


@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.0, 0.15, 0.9]), first=st.permutations(KINDS))
def test_the_last_step_of_a_chain_is_made_wrong(seed, noise, first):
    rng = random.Random(seed)
    text = plain(CHAINS.problems(1, seed, "train")[0].prompt, rng, work=lambda step, coin: result_of(step, noise, coin))
    found = injected(text, CHAINS, first, seed, spans=by_construction(text))
    worked = equations(text)
    if found is None:
        again = {b.start for _, b in recomputations(text)} | {a.start for a, _ in recomputations(text)}
        assert not any(holds(equation, CHAINS) and equation.start not in again for equation in worked)
        return
    right, wrong = check(found, text, CHAINS)
    assert right in worked and right.end == len(found.right) and wrong.end == len(found.wrong)
    assert not recomputations(found.wrong)[len(recomputations(found.right)) :]


def test_the_place_is_the_number_of_the_event_and_every_step_is_drawn():
    text = "7 + 5 = 2 ; 2 - 3 = 9 ; 9 * 3 = 7 ; 7 + 1 = 8 #### 8"
    drawn = [injected(text, CHAINS, seed=seed) for seed in range(40)]
    assert {(found.place, found.token) for found in drawn} == {(0, 4), (1, 10), (2, 16), (3, 22)}
    assert all(equations(text)[found.place].end == found.end for found in drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_that_is_asked_for_is_tried_first(kind):
    others = tuple(other for other in KINDS if other != kind)
    for seed in range(20):
        found = injected("7 + 5 = 2 #### 2", CHAINS, (kind, *others), seed)
        assert found.kind == kind
        check(found, "7 + 5 = 2 #### 2", CHAINS)


def test_where_a_kind_cannot_be_wrong_the_next_is_tried():
    text = "0 * 5 = 0 #### 0"  # another operand has the same result
    assert injected(text, CHAINS, (OPERAND,)) is None
    assert injected(text, CHAINS, (OPERAND, DIGIT, SIGN)).kind == DIGIT
    assert injected(text, CHAINS, (OPERAND, SIGN, DIGIT)).wrong in ("0 + 5 = 0", "0 - 5 = 0")
    assert injected("2 * 2 = 4 so", SUMS, (SIGN,)).wrong == "2 - 2 = 4", "2 + 2 is 4"
    assert at_its_end(r"1 + 1 = 3. So 3 \* 4 = 12", SUMS, (SIGN,)) is None, "behind the bar no other sign is one"
    many = [injected("5 * 3 = 5 so", CHAINS, (OPERAND,), seed) for seed in range(20)]
    assert many.count(None) <= 2, "every other operand has the same result"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (r"So $70 \times 15 = \boxed{1050}$.", (DIGIT, OPERAND)),
        (r"So $70 - 15 = 55$.", KINDS),
        ("\\[\n120 ÷ 40 = 3\n\\]\n\n", KINDS),
        ("So 12 × 12 = 144.", KINDS),
        ("1,200 − 1,000 = 200", KINDS),
        ("1,200 + 34 = 1,234", KINDS),
        ("1.5 + 2.25 = 3.75 ;", KINDS),
        ("So 3 - 14 = -11", KINDS),
        ("-3 + 14 = 11", KINDS),
        ("So 7 times 15 is 105.", (DIGIT, OPERAND)),
        ("**70 + 15 = 85**", KINDS),
        ("So (70 + 15) = 85 hats for Tom.", KINDS),
        ("It is 1 + 70 + 15 = 86. So 70 + 15 = 85", KINDS),
    ],
)
def test_equations_in_other_notations(text, kinds, kind):
    for seed in range(10):
        found = at_its_end(text, SUMS, (kind,), seed)
        assert (found is not None) == (kind in kinds)
        if found is not None:
            assert found.kind == kind
            check(found, text, SUMS)


def test_what_is_right_is_for_the_task_to_say():
    for text, right, wrong in [("7 + 5 = 2 ; so", CHAINS, SUMS), ("7 + 5 = 12 ; so", SUMS, CHAINS)]:
        assert injected(text, right) is not None
        assert injected(text, wrong) is None
    ten = QuestionTask(modulus=10)
    for seed in range(20):
        check(injected("7 + 5 = 2 ; so", ten, seed=seed), "7 + 5 = 2 ; so", ten)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("", SUMS),
        ("so", SUMS),
        ("7 + 5 = 3 ; so", CHAINS),
        ("7 + 5 = 2 , wait , 7 + 5 = 2 ; so", CHAINS),
        ("7 + 5 = 3 , wait , 7 + 5 = 2 #### 2", CHAINS),
        ("7 + 5 = 2 , wait , 7 + 5 = 2 ; 3 + 3 = 7 ; so", CHAINS),
        ("1 + 2 + 3 = 6 ; so", SUMS),
        ("5 / 0 = 5 ; so", SUMS),
        ("6 / 2 = 3 ; so", CHAINS),
        ("1.5 + 1 = 2 ; so", CHAINS),
        ("Tom is in the hall . So he is .", SUMS),
    ],
)
def test_nothing_can_be_changed(text, task):
    for seed in range(5):
        assert injected(text, task, seed=seed, spans=by_construction(text), places={"= 0", "a ."}) is None


def test_without_a_fork_nothing_is_changed():
    text = "7 + 5 = 2 ; so"
    assert inject(text, "", tokens(text), [], CHAINS, random.Random(0)) is None


def test_the_step_after_a_check_is_open_to_errors():
    text = "7 + 5 = 3 , wait , 7 + 5 = 2 ; 2 - 3 = 9 #### 9"
    found = injected(text, CHAINS, spans=by_construction(text))
    assert (found.place, found.token) == (1, 18)
    right, _ = check(found, text, CHAINS)
    assert right == equations(text)[-1]


@pytest.mark.parametrize(
    "text",
    [
        "So 3 + 4 = 7. Let me check: 3 + 4 = 7 and Tom leaves. Ann",
        "So 3 + 4 = 7. Wait, was 3 + 5 = 8 said? Tom leaves. Ann",
        "So 3 + 4 = 7. Hmm. Now 3 + 4 = 7, but Ann leaves. Tom",
        "The price of it all is 15 euros. Wait. The price of it all is 12 euros, but Tom left. Ann",
        "He left. Wait, he pays 15 euros. Tom left. Ann",
    ],
)
def test_no_error_is_put_into_prose_that_checks(text):
    spans, places = by_sentences(text, LEXICON), {"a .", "0 ."}
    last = events(text, tokens(text), spans, frozenset(places))[-1]
    assert not last.is_onset and tokens(text)[last.token][0] > spans[-1].end, "a fork behind the check"
    found = [injected(text, seed=seed, spans=spans, places=places) for seed in range(20)]
    assert not any(f and span.start < f.end and f.start < span.end for f in found for span in spans)


def test_in_the_organisms_traces_no_check_is_touched():
    rng, many = random.Random(0), 0
    for seed, problem in enumerate(CHAINS.problems(150, 0, "train")):
        text = functional(problem.prompt, rng)
        spans = by_construction(text)
        found = injected(text, CHAINS, seed=seed, spans=spans)
        if found is not None:
            check(found, text, CHAINS)
            assert not any(span.start <= found.end and found.start < span.end for span in spans)
            many += bool(spans)
    assert many > 30


def test_an_error_that_would_repeat_the_step_before_is_not_made():
    text = "3 + 4 = 7 ; 3 + 5 = 8 ; so"
    for seed in range(200):
        assert not recomputations(injected(text, SUMS, (OPERAND, SIGN), seed).wrong)


def test_the_error_is_in_the_last_sentence_so_that_none_contradicts_it():
    for text, changed in [
        ("So 3 + 4 = 7.\n\n", DIGIT),
        ("So 3 + 4 = 7. He has 7 hats.\n\n", None),
        ("So 3 + 4 = 7. He left.\n\n", None),
        ("He left. So 3 + 4\n= 7 .\n\n", DIGIT),
        ("\\[\n3 + 4 = 7\n\\]\n\n", DIGIT),
        ("So 12 cups. Tom left.", None),
        ("Tom left. So 12 cups.", NUMBER),
    ]:
        found = at_its_end(text, SUMS)
        assert (found and found.kind) == changed


def test_the_error_is_behind_the_event_before():
    text = "He has 15 hats, 4 cups, Tom. So"
    found = [injected(text, seed=seed, places={"a ,", "a ."}) for seed in range(20)]
    assert {(f.place, f.start) for f in found} == {(0, 7), (1, 16)}


@pytest.mark.parametrize(
    ("prompt", "text", "number"),
    [
        ("Tom has 3 hats and 12 cups.", "He has 12 cups and 3 hats and 15 in all. Ann", "15"),
        ("", "He has 15 hats and 4 cups. Ann", None),
        ("", "He has 15 hats. He has 15 hats and 4 cups. Ann", None),
        ("Tom has 1200 hats.", "He has 1,200 hats and 15 cups. Ann", "15"),
        ("Tom has 1,200 hats.", "He has 1200 hats and 15 cups. Ann", "15"),
        ("Tom has 1200 hats.", "He has 1{,}200 hats and 15 cups. Ann", "15"),
        ("Tom has 1 hat or 200.", "He has 1,200 hats. Ann", "1,200"),
        ("Tom has 2 hats or 5.", "He pays 2.5 euros. Ann", "2.5"),
        ("Tom has 15 hats.", "He has 5 hats. Ann", "5"),
        ("Tom has 0 hats.", "He has 10 hats. Ann", "10"),
    ],
)
def test_a_number_of_a_sentence_that_stands_nowhere_before(prompt, text, number):
    numbers = set()
    for seed in range(30):
        found = injected(text, SUMS, seed=seed, prompt=prompt, places={"a ."})
        old, new = found.right[found.start : found.end], found.wrong[found.start : found.end]
        assert found.kind == NUMBER
        assert (found.right, found.wrong) == (
            text[: len(found.right)],
            found.right[: found.start] + new + found.right[found.end :],
        )
        assert len(old) == len(new) and sum(a != b for a, b in zip(old, new, strict=True)) == 1
        assert not re.match(r"0\d", new) and re.sub(r"\d", "", old) == re.sub(r"\d", "", new)
        numbers.add(old)
    assert numbers == ({number} if number else {"15", "4"})


def test_prose_without_a_new_number_is_left_alone():
    for text in ("He has 3 hats. Ann", "He has 12 hats and 3. Ann", "He has hats. Ann"):
        assert injected(text, SUMS, prompt="Tom has 3 hats, Ann 12.", places={"a .", "0 ."}) is None
    found = injected("He has 5 hats, just 5. Ann", SUMS, seed=1, places={"0 ."})
    assert found.start == 7, "where it stands again it is not new"


SWAPS = "Q ann : ann bob , cy dot , bob eve A"
TOLD = (
    "ann has it and ann swaps with bob so it is with bob . bob has it and cy swaps with dot so it is with bob"
    " . bob has it and bob swaps with eve so it is with eve . #### eve"
)


def test_a_sentence_without_numbers_ends_with_another_word_of_the_problem_that_ends_one():
    found = [injected(TOLD, SUMS, seed=seed, prompt=SWAPS, places={"a ."}) for seed in range(40)]
    assert {f.kind for f in found} == {WORD} and {f.place for f in found} == {0, 1, 2}
    changed = {(f.place, f.right[f.start : f.end], f.wrong[f.start : len(f.wrong) - 2]) for f in found}
    assert changed == {(0, "bob", "eve"), (1, "bob", "eve"), (2, "eve", "bob")}
    assert all(f.right == TOLD[: len(f.right)] and f.right.endswith(" .") for f in found)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Q ann : ann bob A", TOLD),  # the other name is none of the problem's
        ("Q ann : cy dot A", "ann has it and cy swaps with dot so it is with ann . #### ann"),  # the only ending
        ("Has she eggs at the market?", "She sells the eggs. She is at the market. Then"),  # after other words
        ("bob or eve", "bob . eve . bob"),  # after none
    ],
)
def test_a_word_that_nothing_like_it_could_stand_for_is_left_alone(prompt, text):
    assert all(injected(text, SUMS, seed=seed, prompt=prompt, places={"a ."}) is None for seed in range(20))


def test_a_changed_word_is_repaired_where_its_sentence_is_told_again_with_the_right_one():
    found = next(
        f for seed in range(40) if (f := injected(TOLD, SUMS, seed=seed, prompt=SWAPS, places={"a ."})).place == 1
    )
    told = f"{found.wrong} wait , bob has it and cy swaps with dot so it is with"
    assert is_repaired(f"{told} bob . bob has", found, SUMS, LEXICON)
    assert not is_repaired(f"{told} eve . bob has", found, SUMS, LEXICON)
    assert not is_repaired(f"{found.wrong} eve has it and bob swaps with eve so it is with bob", found, SUMS, LEXICON)


def test_the_same_random_numbers_make_the_same_error():
    text = "7 + 5 = 2 ; 2 - 3 = 9 ; 9 * 3 = 7 ; 7 + 1 = 8 #### 8"
    drawn = [injected(text, CHAINS, seed=seed) for seed in range(30)]
    assert drawn == [injected(text, CHAINS, seed=seed) for seed in range(30)]
    assert len({found.wrong for found in drawn}) > 10


def error(right, wrong, kind, step):
    """An error in a step of a prefix, where both are as long."""
    start = right.index(step)
    return Injected(0, 0, kind, right, wrong, start, start + len(step))


SLIP = error("1 + 1 = 2 ; 7 + 5 = 2", "1 + 1 = 2 ; 7 + 5 = 4", DIGIT, "7 + 5 = 2")
SWAP = error("1 + 1 = 2 ; 7 + 5 = 2", "1 + 1 = 2 ; 7 - 5 = 1", SIGN, "7 + 5 = 2")
MISREAD = error("1 + 1 = 2 ; 7 + 5 = 2", "1 + 1 = 2 ; 7 + 6 = 2", OPERAND, "7 + 5 = 2")


@pytest.mark.parametrize(
    ("done", "then", "repaired"),
    [
        (SLIP, " , wait , 7 + 5 = 2 ; 2 - 3 = 9", True),
        (SLIP, " , wait , 7 + 5 = 3", False),
        (SLIP, " , wait , 7 + 5 = 4", False),
        (SLIP, " , wait , 7 + 5 = 3 , 7 + 5 = 2", False),
        (SLIP, " ; 4 - 3 = 1 , wait , 7 + 5 = 2", False),
        (SLIP, " ; 4 + 5 = 9", False),
        (SLIP, " , wait , 5 + 7 = 2", False),
        (SLIP, " , wait , 1 + 1 = 2", False),
        (SLIP, " , wait , 7 + 5 + 0 = 2", False),
        (SLIP, " , wait , 7 + 5 =", False),
        (SLIP, " #### 4", False),
        (SLIP, "", False),
        (SLIP, "2 , wait , 7 + 5 = 2", True),
        (SWAP, " , wait , 7 - 5 = 2", True),
        (SWAP, " , wait , 7 + 5 = 2", True),
        (SWAP, " , wait , 7 * 5 = 5", False),
        (SWAP, " , wait , 7 - 5 = 1", False),
        (SWAP, " , wait , 7 + 5 = 1", False),
        (MISREAD, " , wait , 7 + 6 = 3", True),
        (MISREAD, " , wait , 7 + 5 = 2", True),
        (MISREAD, " , wait , 7 + 6 = 2", False),
        (MISREAD, " , wait , 7 + 5 = 3", False),
        (MISREAD, " ; 2 - 3 = 9", False),
    ],
)
def test_a_step_is_repaired_where_it_is_worked_again_with_its_right_result(done, then, repaired):
    assert is_repaired(done.wrong + then, done, CHAINS, LEXICON) is repaired


def test_the_repair_may_be_in_another_notation():
    right = r"So $7 \times 15 = \boxed{105}$."
    done = error(right, right.replace("105", "108"), DIGIT, r"7 \times 15 = \boxed{105")
    assert is_repaired(f"{done.wrong} Wait, 7 * 15 is 105.", done, SUMS, LEXICON)
    assert not is_repaired(f"{done.wrong} Wait, 7 * 15 is 108.", done, SUMS, LEXICON)


@given(seed=st.integers(0, 10**6), first=st.permutations(KINDS))
def test_an_injected_error_is_repaired_by_either_form(seed, first):
    rng = random.Random(seed)
    text = plain(CHAINS.problems(1, seed, "train")[0].prompt, rng)
    found = injected(text, CHAINS, first, seed, spans=by_construction(text))
    if found is None:
        return
    for prefix in (found.right, found.wrong):
        a, sign, b = equations(prefix)[-1].binary
        result = int(CHAINS.true_result(a, sign, b))
        again = f"{found.wrong} , wait , {a} {sign} {b} = "
        assert is_repaired(f"{again}{result} ; 0 + 0 = 0", found, CHAINS, LEXICON)
        assert not is_repaired(f"{again}{(result + 1) % 10} ; 0 + 0 = 0", found, CHAINS, LEXICON)
    assert not is_repaired(found.wrong, found, CHAINS, LEXICON)


@pytest.mark.parametrize(
    ("then", "repaired"),
    [
        (" Wait. The price of all is now 1,200 euros.", True),
        (" Wait. The price of all is now 1200 euros. So it is.", True),
        (" The price of all is now 1,200. Good.", True),
        (" Wait. The price of all is now 1,800 euros.", False),
        (" Wait. The price of all is now 11,200 euros.", False),
        (" Wait. The price of all is now 1,500 euros. Wait. The price of all is now 1,200 euros.", False),
        (" Wait. The weight of all is now 1,200 euros.", False),
        (" Tom left. Ann has 1,200 euros.", False),
        ("", False),
    ],
)
def test_a_sentence_is_repaired_where_it_is_told_again_with_its_number(then, repaired):
    text = "The trip was long. The price of all is now 1,200 euros."
    done = error(text, text.replace("1,200", "1,700"), NUMBER, "1,200")
    assert is_repaired(done.wrong + then, done, SUMS, LEXICON) is repaired


def test_another_sentence_that_is_told_again_is_no_repair():
    text = "The price of all is now 12 euros. Tom left. He has 40 hats."
    done = error(text, text.replace("40", "47"), NUMBER, "40")
    told = f"{done.wrong} The height of it is now 4 feet. Wait. The height of it is now 40 feet."
    assert not is_repaired(told, done, SUMS, LEXICON)
