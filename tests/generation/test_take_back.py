"""Tokens that edits force, take back or choose again: every logit is that of the text as it stands."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from interp.errors import InterpError
from interp.generation.part import Job
from interp.generation.sampling import SLACK, CachedModel, write, writing
from interp.organisms.chains import CHAINS
from interp.organisms.tokenizers import vocabulary
from interp.traces.tokens import encode

from .test_sampling import windowed

PROMPTS = ["Q 7 + 5 - 3 A", "A", "Q 3 - 3 + 4 * 9 A", "Q 8 A wait , then", "Q 1 A"]
SHOTS = "Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3
WORDS = vocabulary(CHAINS.tokenizer())


class Script:
    """Does to each row what a script says at each step, and keeps the logits of every text."""

    by_row = False

    def __init__(self, acts):
        self.acts, self.seen, self.steps = acts, [], 0

    def before(self, part):
        self.steps += 1
        for i in range(len(part.rows)):
            if not part.done[i]:
                self.seen.append((part.prompts[i] + part.written[i], part.logits[i].clone()))

    def after(self, part):
        for i in part.free:
            act = self.acts.get((part.rows[i], part.step))
            if act:
                act(part, i)


def run(model, tokenizer, *scripts, prompts=PROMPTS, steps=8, temperature=1.0, ends=()):
    encoded = [encode(tokenizer, p) for p in prompts]
    jobs = [Job(encoded, range(len(prompts)), script) for script in scripts]
    return write(CachedModel(model), tokenizer, jobs, writing(tokenizer, steps, temperature, 0, ends))


@torch.inference_mode()
def check_logits(model, seen):
    for text, logits in seen:
        whole = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits, whole, atol=2e-3, rtol=1e-3)


def back(n):
    return lambda part, i: part.take_back(i, n)


def again(part, i):
    part.choose_again(i)


def back_and_again(n):
    def act(part, i):
        part.take_back(i, n)
        part.choose_again(i)

    return act


def force(*words):
    return lambda part, i: part.force(i, [WORDS.index(w) for w in words])


ACTS = {
    (0, 0): again,
    (0, 1): again,
    (1, 3): back(2),
    (1, 5): back(1),
    (2, 2): back_and_again(2),
    (2, 4): back_and_again(1),
    (0, 4): again,
    (1, 6): again,
    (3, 4): back(4),
    (3, 6): force("wait", ",", "9"),
}
"""At the start of a completion, in its middle, twice, the whole completion, and row 4 is left alone."""


def gpt2():
    """Positions are learned, so that one miscounted would show more than under rotation."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=80, bos_token_id=None)
    made = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            parameter.mul_(8.0)
    return made


@pytest.mark.parametrize("shots", ["", SHOTS])
@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_logits_are_those_of_the_text_as_it_stands(model, tokenizer, kind, shots):
    model = model if kind == "qwen2" else gpt2()
    prompts = [shots + p for p in PROMPTS]
    script, idle = Script(ACTS), Script({})
    edited, plain = run(model, tokenizer, script, idle, prompts=prompts)
    check_logits(model, script.seen)
    assert edited[4] == plain[4], "a row beside others that take tokens back"
    assert all(edited[i] != plain[i] for i in range(4))
    assert plain == run(model, tokenizer, None, prompts=prompts)[0]


@pytest.mark.parametrize("act", [back(1), again], ids=["back", "again"])
def test_what_is_taken_back_is_no_distance_in_a_window(tokenizer, act):
    """As long as the window is longer than the text; where it is not, the edit is refused, and no other."""
    script = Script({(0, 4): act, (2, 5): act})
    model = windowed(len(tokenizer), 64)
    run(model, tokenizer, script)
    check_logits(model, script.seen)
    for window in (9, 20):
        model = windowed(len(tokenizer), window)
        with pytest.raises(InterpError, match="takes tokens back, and a layer of the model attends to a window"):
            run(model, tokenizer, Script({(0, 4): act}), steps=20)
        run(model, tokenizer, Script({(0, 4): force("wait", ",")}), steps=20)


def test_a_wrong_position_or_a_token_still_read_would_show(model, tokenizer):
    script = Script(ACTS)
    run(model, tokenizer, script)
    with pytest.raises(AssertionError), torch.inference_mode():
        check_logits(model, [(text[:-2] + text[-1:], logits) for text, logits in script.seen if len(text) > 3])


def test_a_choice_made_again_meets_new_noise_and_the_old_logits(model, tokenizer):
    script = Script({(0, step): again for step in range(3)})
    run(model, tokenizer, script, prompts=PROMPTS[:1], steps=3)
    texts, logits = zip(*script.seen[:4], strict=True)
    assert len(set(map(tuple, texts))) == 1
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=2e-3, rtol=1e-3)
    seen = []

    def keep(part, i):
        seen.append(int(part.chosen[i]))
        part.choose_again(i)

    run(model, tokenizer, Script({(0, step): keep for step in range(12)}), prompts=PROMPTS[:1], steps=3)
    assert len(set(seen)) > 3


def test_what_is_taken_back_is_not_in_the_text(model, tokenizer):
    def take_two_and_write_nine(part, i):
        part.take_back(i, 2)
        part.choose(i, WORDS.index("9"))

    free = run(model, tokenizer, Script({}), steps=6)[0]
    edited = run(model, tokenizer, Script({(2, 3): take_two_and_write_nine}), steps=6)[0]
    assert free[2].completion_ids[:3] != edited[2].completion_ids[:3]
    assert edited[2].completion_ids[:2] == [free[2].completion_ids[0], WORDS.index("9")]
    assert [r for i, r in enumerate(edited) if i != 2] == [r for i, r in enumerate(free) if i != 2]


def test_forced_tokens_are_written_and_read_and_no_edit_may_choose_there(model, tokenizer):
    free_at = []

    class Watching(Script):
        def after(self, part):
            free_at.append(0 in part.free)
            super().after(part)

    script = Watching({(0, 1): force("wait", "7", "7")})
    (r,) = run(model, tokenizer, script, prompts=PROMPTS[:1], steps=6)[0]
    assert [WORDS[t] for t in r.completion_ids[2:5]] == ["wait", "7", "7"]
    assert free_at == [True, True, False, False, False, True]
    check_logits(model, script.seen)


@pytest.mark.parametrize("end", ["<eos>", "7"])
def test_a_forced_end_ends(model, tokenizer, end):
    script = Script({(0, 0): force("9", end, "9")})
    ends = [WORDS.index("7")]
    (r,) = run(model, tokenizer, script, prompts=PROMPTS[:1], steps=9, ends=ends)[0]
    assert (len(r.completion_ids), r.finished) == (2, True)


def test_a_row_that_never_gets_on_ends_unfinished(model, tokenizer):
    """After SLACK choices for each token of the limit; the others are done long before."""
    acts = {(0, step): again for step in range(1, 1000)}
    script = Script(acts)
    rollouts = run(model, tokenizer, script, steps=5)[0]
    assert script.steps == SLACK * 5
    assert len(rollouts[0].completion_ids) == 1 and not rollouts[0].finished
    assert rollouts[1:] == run(model, tokenizer, None, steps=5)[0][1:]


def test_the_limit_counts_what_is_written_not_what_was_chosen(model, tokenizer):
    no_end = [WORDS.index("<eos>")]

    class Endless(Script):
        def before(self, part):
            part.logits[:, no_end] = -torch.inf

    acts = {(0, 2): back(2), (0, 4): back_and_again(2), (1, 0): force("wait", "9", "9", "9", "9", "9", "9")}
    rollouts = run(model, tokenizer, Endless(acts), steps=5)[0]
    assert [len(r.completion_ids) for r in rollouts] == [5] * 5


def test_a_part_says_which_choice_is_a_rows_last(model, tokenizer):
    last = {}

    class Watching(Script):
        def before(self, part):
            for i, row in enumerate(part.rows):
                if not part.done[i]:
                    last.setdefault(row, []).append(part.is_last(i))

    run(model, tokenizer, Watching({(0, 1): back(1), (0, 2): again}), steps=3, temperature=0.0)
    for row, flags in last.items():
        assert not any(flags[:-1])
        assert flags[-1] == (len(run(model, tokenizer, None, steps=3, temperature=0.0)[0][row].completion_ids) == 3)
    last.clear()
    run(model, tokenizer, Watching({(0, step): again for step in range(99)}), steps=3)
    assert last[0] == [False] * (SLACK * 3 - 1) + [True]
