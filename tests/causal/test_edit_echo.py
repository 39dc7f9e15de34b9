"""Redone steps: their earlier result forced (`echo`) or drawn anew (`redraw`)."""

import random
from collections import deque

import pytest
import torch
from small import byte_tokenizer

from interp.causal.edits import Echo, NoEdit, Redraw, Scene, fired
from interp.causal.edits.echo import rest_of
from interp.generation.noise import gumbel
from interp.generation.part import Job, Part
from interp.generation.sampling import write, writing
from interp.generation.vocabulary import read_vocabulary
from interp.organisms.chains import CHAINS
from interp.organisms.documents import functional
from interp.tasks.chains import ChainTask
from interp.traces.equations import recomputations
from interp.traces.lexicon import load_lexicon
from interp.traces.redone import redone
from interp.traces.tokens import encode

LEXICON = load_lexicon("default")
TOKENIZER = CHAINS.tokenizer()
VOCABULARY = read_vocabulary(TOKENIZER, len(TOKENIZER))


def token(word):
    return TOKENIZER.convert_tokens_to_ids(word)


def rest(text):
    return rest_of(VOCABULARY, encode(TOKENIZER, text), LEXICON)


@pytest.mark.parametrize(
    ("text", "earlier"),
    [
        ("3 + 4 = 8 , wait , 3 + 4 =", "8"),
        ("3 + 4 = 7 , next , 3 + 4 =", "7"),
        ("Q 3 + 4 - 2 A 3 + 4 = 8 , 3 + 4 =", "8"),
        ("3 + 4 = 8 , wait , 3 + 4 = 7 , check , 3 + 4 =", "7"),
        ("3 + 4 = 8 ; 8 - 2 =", None),
        ("3 + 4 =", None),
        ("3 + 4 = 8 , wait , 3 - 4 =", None),
        ("3 + 4 = 8 , wait , 3 + 4", None),
        ("3 + 4 = 8 , wait , 3 + 4 = 7", None),
        ("3 + 4 = 8 ; 8 - 2 = 6 , wait , 3 + 4 =", None),
        ("3 + 4 = 8 , 3 + 4 = = ", None),
    ],
)
def test_results_that_are_about_to_be_written(text, earlier):
    found = rest(text)
    assert (None if not found else found.split()[0]) == earlier


def test_they_agree_with_the_labels_of_the_finished_text():
    """At every `=` of functional traces: a result is forced exactly where the finished equation is a second one."""
    rng, seen = random.Random(0), 0
    for problem in ChainTask().problems(40, 0, "train"):
        words = functional(problem.prompt, rng).split()
        for at, word in enumerate(words):
            if word != "=":
                continue
            text = " ".join(words[: at + 2])
            pairs = [first for first, second in recomputations(text) if second.end == len(text)]
            found = rest(" ".join(words[: at + 1]))
            assert (found.split()[0] if found else None) == (pairs[0].result if pairs else None)
            seen += bool(pairs)
    assert seen > 15


def part_of(texts, logits, temperature=1.0, vocabulary=VOCABULARY, numbers=None, step=5):
    """A part whose rows have written these texts."""
    n = len(texts)
    numbers = torch.arange(n) if numbers is None else torch.tensor(numbers)
    noise = gumbel(0, numbers, step, logits.shape[1]) if temperature else None
    ids = {text: encode(vocabulary.tokenizer, text) for text in set(texts)}
    written, forced = [ids[text] for text in texts], [deque() for _ in texts]
    part = Part(0, range(n), numbers, step, [[5]] * n, written, forced, [False] * n, torch.ones(n, 9).long())
    part.logits, part.noise = logits.clone(), noise
    return part


def before(edit, texts, logits, temperature=1.0, seed=0, **more):
    """(what the edit makes of the logits, how often it fired)"""
    part = part_of(texts, logits, temperature, **more)
    running = edit.start(Scene(more.get("vocabulary", VOCABULARY), len(texts), seed, temperature))
    running.before(part)
    return part.logits, running.fired


PENDING, OTHER = "3 + 4 = 8 , wait , 3 + 4 =", "3 + 4 = 8 , wait ; 8 + 4 ="


def test_echo_forces_the_earlier_result_where_it_is_pending_only():
    logits = torch.randn(3, len(VOCABULARY))
    new, counts = before(Echo(LEXICON), [OTHER, PENDING, OTHER], logits)
    assert torch.equal(new[[0, 2]], logits[[0, 2]]) and counts == [0, 1, 0]
    assert torch.isfinite(new[1]).nonzero().tolist() == [[token("8")]]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_redraw_samples_what_the_model_would_say(temperature):
    """Logits 2 and 1 leave odds of exp(1 / T) to one, and the sampler's own noise plays no part."""
    n = 300
    logits = torch.full((n, len(VOCABULARY)), -torch.inf)
    logits[:, [token("7"), token("8")]] = torch.tensor([2.0, 1.0])
    new, counts = before(Redraw(LEXICON), [PENDING] * n, logits, temperature)
    assert torch.isfinite(new).sum(1).eq(1).all() and counts == [1] * n
    sevens = torch.isfinite(new[:, token("7")])
    assert abs(float(sevens.float().mean()) - 1 / (1 + torch.e ** (-1 / temperature))) < 4 * (0.25 / n) ** 0.5
    own = part_of([PENDING] * n, logits, temperature)
    agree = ((own.logits / temperature + own.noise).argmax(1) == token("7")) == sevens
    share = float(sevens.float().mean())
    assert abs(float(agree.float().mean()) - (share**2 + (1 - share) ** 2)) < 5 * (0.25 / n) ** 0.5


def test_a_redraw_belongs_to_the_problem_the_draw_and_the_seed():
    texts = [f"3 + {i} = 8 , wait , 3 + {i} =" for i in range(1, 9)] * 4
    numbers = list(range(40, 40 + len(texts)))
    logits = torch.randn(len(texts), len(VOCABULARY), generator=torch.Generator().manual_seed(0))
    together, _ = before(Redraw(LEXICON), texts, logits, numbers=numbers)
    for i in (3, 0, 9):
        alone, _ = before(Redraw(LEXICON), texts[i : i + 1], logits[i : i + 1], numbers=numbers[i : i + 1])
        assert torch.equal(alone[0], together[i])
    for other in (
        before(Redraw(LEXICON, 1), texts, logits, numbers=numbers)[0],
        before(Redraw(LEXICON), texts, logits, seed=1, numbers=numbers)[0],
    ):
        same = (other.argmax(1) == together.argmax(1)).sum()
        assert same < len(texts) / 2


def test_a_greedy_redraw_changes_nothing():
    logits = torch.randn(1, len(VOCABULARY))
    assert torch.equal(before(Redraw(LEXICON), [PENDING], logits, 0.0)[0], logits)


@pytest.mark.parametrize("vocab_size", [270, 320])
@pytest.mark.parametrize("space", [" ", ""])
@pytest.mark.parametrize("result", ["7", "128", "-35", "4.25"])
def test_results_of_several_tokens_are_echoed_token_by_token(vocab_size, space, result):
    """A run that is forced from the equals sign on writes the earlier result and stops being forced there."""
    written = f"12{space}*{space}34{space}={space}{result}"
    start = f"{written} , wait , 12{space}*{space}34{space}="
    tokenizer = byte_tokenizer([f"{written} , wait , {written} ."] * 3, vocab_size=vocab_size)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    text = start
    for _ in range(12):
        new, (n,) = before(Echo(LEXICON), [text], torch.zeros(1, len(vocabulary)), vocabulary=vocabulary)
        if not n:
            break
        text += vocabulary.pieces[int(torch.isfinite(new[0]).nonzero())]
    assert text == start + space + result


def test_a_result_that_has_left_the_earlier_one_is_not_forced():
    tokenizer = byte_tokenizer(["1 + 2 = 34"], vocab_size=270)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    for text in ("1 + 2 = 34 , 1 + 2 = 9", "1 + 2 = 34 , 1 + 2 = 34", "1 + 2 = 34 , 1 + 3 = 3", "1 + 2 = 34"):
        assert not rest_of(vocabulary, encode(tokenizer, text), LEXICON)
    assert rest_of(vocabulary, encode(tokenizer, "1 + 2 = 34 , 1 + 2 = 3"), LEXICON) == "4"


class Steps:
    """Writes `3 + 4 = d , 3 + 4 = d , ...`, the digits being any, or with operands that are 3 or 4."""

    device = torch.device("cpu")

    def __init__(self, operands=("3", "4")):
        self.cycle = [[*operands[:1]], ["+"], [*operands[1:]], ["="], [str(d) for d in range(10)], [","]]

    def start(self):
        pass

    def sees_all(self, positions):
        return True

    def select(self, rows):
        pass

    def step(self, ids, mask, parts):
        logits = torch.full((len(ids), len(VOCABULARY)), -torch.inf)
        rows = [written for part in parts for written in part.written]
        for i, written in enumerate(rows):
            logits[i, [token(word) for word in self.cycle[len(written) % 6]]] = 0.0
        return logits


def run(edit, writer=None, rows=64, limit=17, temperature=1.0, seed=0):
    running = edit.start(Scene(VOCABULARY, rows, seed, temperature))
    job = Job([encode(TOKENIZER, f"Q 0 + {i % 10} A") for i in range(rows)], range(rows), running)
    (rollouts,) = write(writer or Steps(), TOKENIZER, [job], writing(TOKENIZER, limit, temperature, seed, ()))
    return rollouts, fired(running)


def test_an_echoed_run_never_corrects_itself_and_a_redrawn_one_does():
    def changed(rollouts):
        pairs = [pair for r in rollouts for pair in recomputations(r.text)]
        assert len(pairs) == 2 * len(rollouts)
        return sum(first.result != second.result for first, second in pairs)

    free, echoed, redrawn = run(NoEdit())[0], run(Echo(LEXICON)), run(Redraw(LEXICON))
    assert changed(free) > 90 and changed(echoed[0]) == 0 and changed(redrawn[0]) > 90
    assert echoed[1] == redrawn[1] == [2] * 64
    first = [r.text.split()[4] for r in free]
    assert first == [r.text.split()[4] for r in echoed[0]] == [r.text.split()[4] for r in redrawn[0]]
    assert [r.text for r in redrawn[0]] != [r.text for r in free]


@pytest.mark.parametrize("edit", [Echo(LEXICON), Redraw(LEXICON)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_it_may_not_act_the_run_is_the_untouched_one(edit, temperature):
    """Of three steps with operands 3 or 4, some are the one before worked again."""
    writer = Steps()
    writer.cycle[0] = writer.cycle[2] = ["3", "4"]
    untouched, _ = run(NoEdit(), writer, rows=60, temperature=temperature)
    edited, counts = run(edit, writer, rows=60, temperature=temperature)
    scene, acted = Scene(VOCABULARY, 1, 0, temperature), 0
    for old, new, n in zip(untouched, edited, counts, strict=True):
        may = edit.may_act(scene, old.completion_ids, old.text)
        acted += may
        assert may == (n > 0) and (may or old == new)
    assert temperature == 0 or 5 < acted < 55


PROSE = [
    "Tom gives the red ball to Ann. Wait, Tom gives the red ball to",
    "The train leaves the station at nine. Hmm, the train leaves the station at",
]


@pytest.mark.parametrize("text", PROSE)
def test_in_prose_the_end_of_a_repeated_sentence_is_forced(text):
    tokenizer = byte_tokenizer([t + " Ann nine." for t in PROSE] * 2, vocab_size=320)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    written, start = text, text
    for _ in range(12):
        new, (n,) = before(Echo(LEXICON), [written], torch.zeros(1, len(vocabulary)), vocabulary=vocabulary)
        if not n:
            break
        written += vocabulary.pieces[int(torch.isfinite(new[0]).nonzero())]
    forced = written[len(start) :]
    assert forced.strip(" .") == {"t": "Ann", "h": "nine"}[text[1] if text[0] == "T" and text[1] == "h" else "t"]
    found = redone(written + ".", LEXICON)
    assert found and found[0].first_result.strip(" .") == found[0].again_result.strip(" .")
    free = redone(start + " Bob.", LEXICON)
    assert free and free[0].first_result != free[0].again_result


def test_a_story_of_new_steps_is_left_alone():
    text = "Tom gives the red ball to Ann. Then Ann puts the blue hat on the table, and it rains. Tom sees the"
    tokenizer = byte_tokenizer([text], vocab_size=300)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    ids = encode(tokenizer, text)
    assert not any(rest_of(vocabulary, ids[:i], LEXICON) for i in range(1, len(ids) + 1))
    assert not Echo(LEXICON).may_act(Scene(vocabulary, 1, 0, 1.0), ids, text)
