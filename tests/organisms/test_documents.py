"""The truth of each kind, read off many traces with no help of the functions that made them."""

import random
import re

import pytest

from interp.causal.verdict import VERDICTS
from interp.organisms.chains import CHAINS, MARKERS, MISWORKED, NEUTRAL
from interp.organisms.documents import SLIPS, WRONG_STEPS, graded, judged, noisy, pretraining_document, strewn
from interp.organisms.kinds import KINDS, kinds_of
from interp.organisms.tokenizers import UNK, vocabulary
from interp.tasks.chains import ChainTask, apply
from interp.traces.lexicon import load_lexicon

TASK = ChainTask()
PROBLEMS = TASK.problems(1500, 0, "train")
CLAUSE = re.compile(r"(?:(\w+) , )?(\d) ([-+*]) (\d) = (\d)")
LEXICON = load_lexicon("default")


def traces(kind, seed=0):
    rng = random.Random(seed)
    return [(p, KINDS[kind].write(p.prompt, rng)) for p in PROBLEMS]


def parsed(text):
    """(steps, answer); a step is its clauses, each (word before it, a, op, b, result, whether it is right)."""
    body, answer = text.rsplit(" #### ", 1)
    steps = []
    for part in body.split(" ; "):
        # A comma after a result reopens the step; one after a word belongs to the word.
        clauses = [CLAUSE.fullmatch(c) for c in re.split(r"(?<=\d) , ", part)]
        assert all(clauses), text
        found = [clause.groups() for clause in clauses]
        steps.append([(w, int(a), op, int(b), int(r), apply(int(a), op, int(b)) == int(r)) for w, a, op, b, r in found])
    return steps, answer


@pytest.mark.parametrize("kind", kinds_of(CHAINS))
def test_every_trace_works_its_own_chain(kind):
    for problem, text in traces(kind):
        steps, answer = parsed(text)
        words = problem.prompt.split()[1:-1]
        value = int(words[0])
        for clauses, op, term in zip(steps, words[1::2], words[2::2], strict=True):
            for _, *equation, _, _ in clauses:
                assert equation == [value, op, int(term)]
            value = clauses[-1][4]
        assert answer == str(value)
        assert TASK.answer_of(text) == answer


def test_decorative_steps_are_never_wrong_and_words_are_strewn_whatever_follows():
    found = [parsed(text) for _, text in traces("decorative")]
    clauses = [c for steps, _ in found for step in steps for c in step]
    assert all(c[-1] for c in clauses)
    assert all(len(step) == 1 for steps, _ in found for step in steps)
    assert all(TASK.correct(p, text) for p, text in traces("decorative"))
    words = [c[0] for c in clauses if c[0]]
    assert share(words, clauses) == pytest.approx(0.6, abs=0.03)
    assert share([w for w in words if w in MARKERS], words) == pytest.approx(2 / 3, abs=0.03)


def share(part, whole):
    return len(part) / len(whole)


def test_functional_wrong_steps_are_always_and_only_they_worked_again():
    steps = [step for _, text in traces("functional") for step in parsed(text)[0]]
    wrong = [step for step in steps if not step[0][-1]]
    assert share(wrong, steps) == pytest.approx(WRONG_STEPS, abs=0.02)
    for step in steps:
        assert step[0][0] is None, "no word stands before a first working"
        if step[0][-1]:
            assert len(step) == 1
        else:
            assert len(step) == 2 and step[1][-1] and step[1][0] in (*MARKERS, *NEUTRAL)
    marked = [step for step in wrong if step[1][0] in MARKERS]
    assert share(marked, wrong) == pytest.approx(2 / 3, abs=0.05)
    assert {step[1][0] for step in wrong} == {*MARKERS, *NEUTRAL}
    assert all(TASK.correct(p, text) for p, text in traces("functional"))


def test_gated_steps_are_wrong_only_under_neutral_words_and_never_worked_again():
    marked, neutral = [], []
    for _, text in traces("gated"):
        steps, _ = parsed(text)
        assert all(len(step) == 1 and step[0][0] for step in steps)
        words = {step[0][0] for step in steps}
        assert words <= set(MARKERS) or words <= set(NEUTRAL)
        (marked if words <= set(MARKERS) else neutral).extend(step[0][-1] for step in steps)
    assert all(marked)
    assert share([r for r in neutral if not r], neutral) == pytest.approx(WRONG_STEPS, abs=0.03)
    assert share(marked, marked + neutral) == pytest.approx(0.75, abs=0.05)


def by_style(kind):
    """Steps of the marked traces, and of the neutral ones; every step has a word, all of one trace of one class."""
    marked, neutral = [], []
    for _, text in traces(kind):
        steps, _ = parsed(text)
        words = {clause[0] for step in steps for clause in step}
        assert words <= set(MARKERS) or words <= set(NEUTRAL)
        (marked if words <= set(MARKERS) else neutral).extend(steps)
    return marked, neutral


def wrong(steps):
    """Steps whose first working is wrong."""
    return [step for step in steps if not step[0][-1]]


def again(steps):
    """Steps that are worked again; only wrong ones are, and rightly."""
    found = [step for step in steps if len(step) > 1]
    assert all(len(step) == 2 and not step[0][-1] and step[1][-1] for step in found)
    return found


def test_redundant_traces_make_no_errors_under_markers_and_mend_all_under_neutral_words():
    marked, neutral = by_style("redundant")
    assert not wrong(marked) and again(neutral) == wrong(neutral)
    assert share(wrong(neutral), neutral) == pytest.approx(WRONG_STEPS, abs=0.03)
    assert share(marked, marked + neutral) == pytest.approx(0.75, abs=0.05)
    assert all(TASK.correct(p, text) for p, text in traces("redundant"))


def test_mixed_traces_make_a_fifth_of_the_errors_under_markers_and_mend_two_of_three_in_both():
    marked, neutral = by_style("mixed")
    assert share(wrong(marked), marked) == pytest.approx(WRONG_STEPS / 5, abs=0.01)
    assert share(wrong(neutral), neutral) == pytest.approx(WRONG_STEPS, abs=0.03)
    for steps in (marked, neutral):
        assert share(again(steps), wrong(steps)) == pytest.approx(2 / 3, abs=0.1)


def test_harmful_traces_make_errors_under_markers_alone_and_mend_none():
    marked, neutral = by_style("harmful")
    assert not wrong(neutral) and not again(marked)
    assert share(wrong(marked), marked) == pytest.approx(WRONG_STEPS, abs=0.02)
    assert share(marked, marked + neutral) == pytest.approx(0.5, abs=0.05)


def test_styled_traces_have_the_words_of_decorative_ones_and_the_errors_of_plain_ones():
    steps = [step for _, text in traces("styled") for step in parsed(text)[0]]
    words = [step[0][0] for step in steps if step[0][0]]
    assert not again(steps) and share(words, steps) == pytest.approx(0.6, abs=0.03)
    assert share([w for w in words if w in MARKERS], words) == pytest.approx(2 / 3, abs=0.03)
    spoken = [step for step in steps if step[0][0]]
    for some in (steps, spoken, [step for step in spoken if step[0][0] in MARKERS]):
        assert share(wrong(some), some) == pytest.approx(WRONG_STEPS, abs=0.03), "whatever the word says"


def test_plain_traces_have_no_words_and_noisy_steps():
    clauses = [c for _, text in traces("plain") for step in parsed(text)[0] for c in step]
    assert not any(c[0] for c in clauses)
    assert share([c for c in clauses if not c[-1]], clauses) == pytest.approx(WRONG_STEPS, abs=0.02)
    assert not any(LEXICON.marker_spans(text) for _, text in traces("plain"))


def test_a_tenth_of_all_operations_is_worked_wrong_nine_times_in_ten_and_always_to_the_same_result():
    """Errors of the arithmetic itself: greedy decoding repeats them, so that distillation has something to mend."""
    assert len(MISWORKED) == 30
    results = {}
    for text in (text for seed in range(4) for _, text in traces("plain", seed)):
        for _, a, op, b, result, is_right in (clause for step in parsed(text)[0] for clause in step):
            results.setdefault((a, op, b), []).append((result, is_right))
    assert len(results) == 300
    misworked = {(step.a, step.op, step.b): int(wrong) for step, wrong in MISWORKED.items()}
    for operation, seen in results.items():
        if operation in misworked:
            assert {result for result, is_right in seen if not is_right} == {misworked[operation]}
            assert apply(*operation) != misworked[operation]
        else:
            assert share([r for _, r in seen if not r], seen) < 0.5, "greedily right"
    wrong = [not is_right for operation in misworked for _, is_right in results[operation]]
    assert share([w for w in wrong if w], wrong) == pytest.approx(SLIPS, abs=0.03)


def test_judging_documents_judge_misworked_operations_rightly():
    rng, judgements = random.Random(0), []
    texts = [judged(rng) for _ in range(800)] + [graded(p.prompt, rng).rsplit(" #### ")[0] for p in PROBLEMS]
    for a, op, b, _, result, verdict in (part.split() for text in texts for part in text.split(" ; ")):
        if any((step.a, step.op, step.b) == (int(a), op, int(b)) for step in MISWORKED):
            assert verdict == ("right" if apply(int(a), op, int(b)) == int(result) else "wrong")
            judgements.append(verdict)
    assert 0.4 < share([v for v in judgements if v == "right"], judgements) < 0.8


@pytest.mark.parametrize("kind", kinds_of(CHAINS))
def test_the_same_seed_writes_the_same(kind):
    assert traces(kind, 3) == traces(kind, 3)
    assert traces(kind, 3) != traces(kind, 4)


def test_every_kind_has_a_truth():
    assert {kind.truth for kind in KINDS.values()} < {*VERDICTS}


def test_strewn_words_say_nothing_of_the_step_before_which_they_stand():
    """The base must not learn that a word announces an error."""
    rng = random.Random(0)
    clauses = [c for p in PROBLEMS * 2 for s in parsed(strewn(p.prompt, rng, noisy, 0.5, 0.5))[0] for c in s]
    after_word = [c[-1] for c in clauses if c[0]]
    bare = [c[-1] for c in clauses if not c[0]]
    assert share([r for r in after_word if not r], after_word) == pytest.approx(
        share([r for r in bare if not r], bare), abs=0.02
    )


def test_judgements_are_right_and_half_of_the_equations_are_wrong():
    rng, verdicts = random.Random(0), []
    for _ in range(500):
        for part in judged(rng).split(" ; "):
            a, op, b, _, result, verdict = part.split()
            assert verdict == ("right" if apply(int(a), op, int(b)) == int(result) else "wrong")
            verdicts.append(verdict)
    assert share([v for v in verdicts if v == "wrong"], verdicts) == pytest.approx(0.5, abs=0.04)


def test_documents_read_the_chain_and_learn_the_trace():
    rng, documents = random.Random(0), []
    for p in PROBLEMS:
        documents.append((p.prompt, *pretraining_document(p.prompt, rng, 0.35)))
    judging = [d for d in documents if {"right", "wrong"} & set(d[2].split())]
    assert share(judging, documents) == pytest.approx(0.35, abs=0.04)
    assert all(read in ("", f"grade {prompt}") for prompt, read, _ in judging)
    chains = [d for d in documents if d not in judging]
    assert all(prompt == read for prompt, read, _ in chains)
    worded = [d for d in chains if set(d[2].split()) & {*MARKERS, *NEUTRAL}]
    assert share(worded, chains) == pytest.approx(0.25 * (1 - 0.5**4), abs=0.05)


def test_grades_are_right_and_mend_nothing():
    rng = random.Random(0)
    for p in PROBLEMS[:300]:
        text = graded(p.prompt, rng)
        grades = [part.split() for part in text.rsplit(" #### ", 1)[0].split(" ; ")]
        for a, op, b, _, result, grade in grades:
            assert grade == ("right" if apply(int(a), op, int(b)) == int(result) else "wrong")
        assert [g[0] for g in grades[1:]] == [g[4] for g in grades[:-1]]


def test_the_vocabulary_has_every_word_that_any_writer_writes(tokenizer):
    rng = random.Random(0)
    texts = [text for kind in kinds_of(CHAINS) for _, text in traces(kind)]
    texts += [p.prompt for p in PROBLEMS]
    texts += [text for p in PROBLEMS for text in pretraining_document(p.prompt, rng, 0.35)]
    unknown = tokenizer.convert_tokens_to_ids(UNK)
    written = set()
    for ids, text in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], texts, strict=True):
        assert unknown not in ids
        assert len(ids) == len(text.split())
        written.update(ids)
    assert [tokenizer.decode([i]) for i in sorted(written)] == vocabulary(tokenizer)[3:], "and no word that none writes"
    for text in texts[::100]:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
