"""Where edits act: each place against the positions found in the whole text by hand."""

import pytest
import torch
from scipy.stats import binomtest

from causal.whole import TOKENIZER, VOCABULARY, WIDTH, generated, trio
from interp.causal.edits import Add, fired
from interp.causal.places import (
    COMPLETION,
    EVERYWHERE,
    FORKS,
    PROMPT,
    PROMPT_END,
    Reading,
    after_first,
    behind,
    markers,
    random,
    random_like,
    where,
)
from interp.models.hooks import Site
from interp.traces.lexicon import load_lexicon
from interp.traces.tokens import encode

PROMPTS = ["Q 7 + 5 - 3 A", "A", "Q 3 - 3 + 4 * 9 A wait"]
LEXICON = load_lexicon("default")
VECTOR = torch.ones(WIDTH)


def edited(text, place):
    """Token by token, the positions of a written text (after the prompt `Q 1 A`) at which an edit would act."""
    prompt, ids = encode(TOKENIZER, "Q 1 A"), encode(TOKENIZER, text)
    found = []
    for i in range(len(ids) + 1):
        new = torch.tensor([list(range(len(prompt)))]) if i == 0 else torch.tensor([[len(prompt) + i - 1]])
        reading = Reading(
            position=new,
            real=torch.ones_like(new).bool(),
            in_prompt=torch.full_like(new, i == 0).bool(),
            numbers=torch.tensor([3]),
            texts=lambda i=i: [VOCABULARY.text(ids[:i])],
        )
        found += new[0][place.mask(reading)[0]].tolist()
    return [at - len(prompt) for at in found]


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        (EVERYWHERE, "7 8", [-3, -2, -1, 0, 1]),
        (PROMPT, "7 8", [-3, -2, -1]),
        (COMPLETION, "7 8", [0, 1]),
        (after_first(2), "7 8", [-1, 0, 1]),
        (after_first(4), "7 8", [1]),
        (~COMPLETION, "7 8", [-3, -2, -1]),
        (~after_first(2), "7 8", [-3, -2]),
        (COMPLETION & after_first(4), "7 8", [1]),
        (~(COMPLETION & after_first(4)), "7 8", [-3, -2, -1, 0]),
        (PROMPT_END, "7 8", [-1]),
        (PROMPT_END | after_first(4), "7 8", [-1, 1]),
        (behind(frozenset({"0 ;"})), "3 + 4 = 7 ; 7 - 1 = 6 #### 6", [5]),
        (behind(frozenset({"0 ;", "= 0"})), "3 + 4 = 7 ; 7 - 1 = 6", [4, 5, 10]),
        (FORKS, "3 + 4 = 7 ; 7 - 1 = 6 #### 6", [4, 10]),
        (FORKS, "wait , 3 + 4 = 7 , 3 + 4", [6]),
        (~FORKS & COMPLETION, "3 + 4 = 7 ;", [0, 1, 2, 3, 5]),
        (markers(LEXICON), "3 wait , hmm hmm 3 then", [1, 3, 4]),
        (markers(LEXICON), "next , now 3", []),
        (where("sevens", lambda text: text.endswith("7")), "7 8 7", [0, 2]),
        (random(1.0), "7 8", [0, 1]),
        (random(0.0), "7 8", []),
    ],
    ids=lambda value: str(value),
)
def test_places_of_a_text(place, text, expected):
    assert edited(text, place) == expected


def test_sentences_end_at_their_signs_and_results_may_have_several_digits():
    def acts(text):
        new = torch.tensor([[5]])
        reading = Reading(new, new > 0, new < 0, torch.tensor([0]), lambda: [text])
        return bool(FORKS.mask(reading)[0, 0])

    assert all(map(acts, ("It is.", "So?\n", "\n", "3 + 4 = 1", "3 + 4 = 12", "x = 2, 3 + 4 = 7", "好。")))
    assert not any(map(acts, ("It is", "3 + 4 =", "3 + 4 = 12 so", "", "3 +")))


def test_coins_belong_to_a_problem_and_a_position():
    """Whatever the batch, the step or the other rows; as many heads as asked for; another seed, other coins."""
    n, time = 400, 20
    position, prompt = torch.arange(time).repeat(n, 1), torch.zeros(n, time).bool()

    def coins(rate, seed=0, numbers=None, at=position):
        numbers = torch.arange(n) if numbers is None else numbers
        rows = len(numbers)
        return random(rate, seed).mask(Reading(at[:rows], at[:rows] >= 0, prompt[:rows, : at.shape[1]], numbers, list))

    heads = coins(0.3)
    assert binomtest(int(heads.sum()), n * time, 0.3).pvalue > 0.001
    assert torch.equal(heads[[7, 2]], coins(0.3, numbers=torch.tensor([7, 2])))
    assert torch.equal(heads[:, 4:6], coins(0.3, at=position[:, 4:6]))
    assert not torch.equal(heads, coins(0.3, seed=1)) and (heads <= coins(0.6)).all()
    assert abs(heads.float().mean(0) - 0.3).max() < 0.12 and abs(heads.float().mean(1) - 0.3).max() < 0.45
    assert random_like(30.0, 100.0).name == random(0.3).name
    assert random_like(3.0, 0.0).name == random(0.0).name and random_like(9.0, 3.0).name == random(1.0).name


def test_names_tell_places_apart():
    places = [EVERYWHERE, PROMPT, COMPLETION, ~PROMPT, FORKS, markers(LEXICON), random(0.1), random(0.1, 1)]
    places += [
        PROMPT_END,
        PROMPT_END | FORKS,
        PROMPT_END & FORKS,
        behind(frozenset({"0 ;"})),
        behind(frozenset({"a ;"})),
    ]
    places += [random(0.1000001), after_first(1), after_first(2), PROMPT & after_first(1)]
    names = [str(place) for place in places]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "place",
    [
        EVERYWHERE,
        PROMPT,
        COMPLETION,
        after_first(3),
        where("digits", lambda text: text[-1:].isdigit()),
        markers(LEXICON),
        random(0.4, 2),
        COMPLETION & ~random(0.4),
    ],
    ids=str,
)
def test_only_these_positions_are_edited_while_generating(place):
    """Counted over padded prompts and sampled texts; the last token that is written is read by nobody."""
    edit = Add(Site(1), VECTOR).at(place)
    ((rollouts), *_), (running,), _ = generated(trio("qwen2"), [edit], PROMPTS, steps=30, temperature=1.0)
    for row, (r, n) in enumerate(zip(rollouts, fired(running), strict=True)):
        read = r.completion_ids if r.finished else r.completion_ids[:-1]
        wanted, total = 0, len(r.prompt_ids) + len(read)
        for at in range(total):
            new, written = torch.tensor([[at]]), read[: max(0, at + 1 - len(r.prompt_ids))]
            reading = Reading(
                new, new >= 0, new < len(r.prompt_ids), torch.tensor([row]), lambda w=written: [VOCABULARY.text(w)]
            )
            wanted += int(place.mask(reading).sum())
        assert n == wanted
    assert sum(fired(running)) > 0


@pytest.mark.parametrize(
    "prompts", [PROMPTS, ["Q 7 + 5 A", "Q 7 + 3 A"], ["Q 1 A", "Q 1 A"]], ids=["apart", "shared", "same"]
)
def test_the_prompts_end_is_one_token_also_where_its_beginning_is_read_once(prompts):
    edit = Add(Site(1), VECTOR).at(PROMPT_END)
    _, (running,), _ = generated(trio("qwen2"), [edit], prompts, steps=5, temperature=1.0)
    assert fired(running) == [1] * len(prompts)


def test_a_place_without_positions_changes_no_bit():
    edit = Add(Site(1), 9 * VECTOR).at(random(0.0))
    found, running, seen = generated(trio("llama"), [edit], PROMPTS, steps=6)
    plain, _, wanted = generated(trio("llama"), [Add(Site(1), VECTOR, scale=0.0)], PROMPTS, steps=6)
    assert found == plain and fired(running[0]) == [0, 0, 0]
    assert all(torch.equal(a[-1], b[-1]) for a, b in zip(seen, wanted, strict=True))
