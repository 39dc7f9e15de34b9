import itertools

import pytest
import torch
from scipy.stats import chisquare
from small import byte_tokenizer, small_model

from interp.generation.sampling import (
    NOISE_BLOCK,
    CachedModel,
    generate,
    generate_copies,
    gumbel_noise,
    left_padded,
    pick,
)
from interp.organisms.architecture import vocabulary
from interp.traces.tokens import SHARED, encode

PROMPTS = ["Q 7 + 5 - 3 A", "A", "Q 3 - 3 + 4 * 9 A", "Q 8 A wait , then", "Q 1 A"]
MANY = [f"Q {i % 10} + {i // 10 % 10} A{' wait' * (i % 4)}" for i in range(200)]


@torch.inference_mode()
def without_cache(model, tokenizer, prompt, steps):
    ids = encode(tokenizer, prompt)
    out = []
    for _ in range(steps):
        token = int(model(input_ids=torch.tensor([ids + out]), use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            return out, True
        out.append(token)
    return out, False


def test_greedy_is_the_argmax_of_the_whole_sequence_at_every_step(model, tokenizer):
    rollouts = generate(CachedModel(model), tokenizer, PROMPTS, max_new_tokens=30, temperature=0.0)
    for prompt, r in zip(PROMPTS, rollouts, strict=True):
        expected, finished = without_cache(model, tokenizer, prompt, 30)
        assert r.completion_ids == expected
        assert r.finished == finished
        assert r.prompt_ids == encode(tokenizer, prompt)
        assert r.text == tokenizer.decode(r.completion_ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_company_and_its_padding_change_nothing(model, tokenizer, temperature):
    together = generate(CachedModel(model), tokenizer, PROMPTS, max_new_tokens=30, temperature=temperature)
    if temperature == 0:
        alone = [generate(CachedModel(model), tokenizer, [p], max_new_tokens=30, temperature=0.0)[0] for p in PROMPTS]
    else:  # a prompt's noise depends on its place, so the others are replaced instead of left out
        alone = []
        for i, prompt in enumerate(PROMPTS):
            others = ["Q 1 A"] * i + [prompt]
            alone.append(generate(CachedModel(model), tokenizer, others, max_new_tokens=30)[i])
    assert alone == together


class Counting(CachedModel):
    """Counts the positions that it reads."""

    def start(self):
        super().start()
        self.read = 0

    def step(self, ids, mask, copy):
        self.read += ids.numel()
        return super().step(ids, mask, copy)


SHOTS = "Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3


@pytest.mark.parametrize("copies", [1, 3])
def test_what_all_prompts_begin_with_is_read_once_a_copy(model, tokenizer, copies):
    prompts = [SHOTS + p for p in PROMPTS]
    decoder = Counting(model)
    together = generate_copies(decoder, tokenizer, prompts, copies, max_new_tokens=30, temperature=0.0)
    beginning = len(encode(tokenizer, SHOTS))
    widest = max(len(encode(tokenizer, p)) for p in PROMPTS)
    most = copies * (beginning + len(prompts) * (widest + 29))
    assert beginning >= SHARED and decoder.read <= most < copies * len(prompts) * beginning + most
    for rollouts in together:
        for prompt, r in zip(prompts, rollouts, strict=True):
            assert (r.completion_ids, r.finished) == without_cache(model, tokenizer, prompt, 30)
            assert r.prompt_ids == encode(tokenizer, prompt)


def test_the_same_prompt_several_times_still_leaves_a_token_to_read(model, tokenizer):
    prompts = [SHOTS + "Q 1 A"] * 3
    rollouts = generate(CachedModel(model), tokenizer, prompts, max_new_tokens=30, temperature=0.0)
    assert [(r.completion_ids, r.finished) for r in rollouts] == [without_cache(model, tokenizer, prompts[0], 30)] * 3


def test_the_size_of_a_batch_changes_nothing(model, tokenizer):
    def run(size):
        heard = []
        decoder = CachedModel(model)
        found = generate(decoder, tokenizer, MANY, max_new_tokens=12, batch_size=size, on_batch=heard.append)
        assert sum(heard) == len(MANY)
        return found, len(heard)

    (small, n_small), (large, n_large) = run(1), run(4096)
    assert small == large
    assert (n_small, n_large) == (-(-len(MANY) // NOISE_BLOCK), 1)


def test_every_copy_is_the_run_alone(model, tokenizer):
    alone = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=12)
    for size in (64, 4096):
        copies = generate_copies(CachedModel(model), tokenizer, MANY, 3, max_new_tokens=12, batch_size=size)
        assert copies == [alone] * 3


def test_a_prefix_of_the_prompts_is_answered_alike(model, tokenizer):
    whole = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=12)
    assert generate(CachedModel(model), tokenizer, MANY[:70], max_new_tokens=12) == whole[:70]


def test_seeds_and_places_have_noise_of_their_own(model, tokenizer):
    same = ["Q 1 + 1 A"] * 130
    one, again, other = (generate(CachedModel(model), tokenizer, same, max_new_tokens=12, seed=s) for s in (0, 0, 1))
    assert one == again
    texts, others = [r.text for r in one], [r.text for r in other]
    assert len(set(texts)) > 110
    assert sum(a == b for a, b in zip(texts, others, strict=True)) < 10
    assert texts[:64] != texts[64:128], "blocks of noise differ"


class Flat(CachedModel):
    """Every token but the end is equally likely, so that its completions show the noise."""

    def __init__(self, vocab):
        self.vocab, self.device = vocab, torch.device("cpu")

    def start(self):
        pass

    def step(self, ids, mask, copy):
        logits = torch.zeros(len(ids), self.vocab)
        logits[:, 1] = -torch.inf  # the end
        return logits

    def keep(self, rows):
        pass


def test_no_two_prompts_share_their_noise_whatever_their_seeds(tokenizer):
    """Also where seeds and places are near multiples of each other. Two of these 4,000 texts of six tokens among 2,000
    agree by chance once in 10^12."""
    seen = {}
    for seed in (*range(6), 63, 64, 65, 128, 129, 192, 320, 1000, 1001, 4000, 4096, 10_000, 10_001, 65_536):
        for i, r in enumerate(generate(Flat(2000), tokenizer, ["Q"] * 200, max_new_tokens=6, seed=seed)):
            where = seen.setdefault(tuple(r.completion_ids), (seed, i))
            assert where == (seed, i)


@pytest.mark.parametrize("size", [64, 128, 512])
def test_an_edit_of_one_copy_leaves_the_others_and_their_noise(model, tokenizer, size):
    def only_nine(tokens, logits, copy):
        keep = torch.zeros(logits.shape[1], dtype=torch.bool)
        keep[vocabulary().index("9")] = True
        logits[(copy == 1)[:, None] & ~keep] = -torch.inf

    alone = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=8)
    copies = generate_copies(
        CachedModel(model), tokenizer, MANY, 3, max_new_tokens=8, edits=[only_nine], batch_size=size
    )
    assert copies[0] == copies[2] == alone
    assert {r.text for r in copies[1]} == {" ".join("9" * 8)}


def test_an_edit_sees_the_text_so_far(model, tokenizer):
    seen = []
    generate(
        CachedModel(model),
        tokenizer,
        PROMPTS[:1],
        max_new_tokens=4,
        temperature=0.0,
        edits=[lambda tokens, logits, copy: seen.append((tokens[0].tolist(), logits.argmax(1).item()))],
    )
    prompt = encode(tokenizer, PROMPTS[0])
    assert seen[0][0] == prompt
    for (before, token), (after, _) in itertools.pairwise(seen):
        assert after == [*before, token]


def test_samples_follow_the_softmax():
    torch.manual_seed(0)
    logits, n = 1.5 * torch.randn(12), 64_000
    blocks = [torch.Generator().manual_seed(i) for i in range(n // NOISE_BLOCK)]
    noise = gumbel_noise(n, 12, blocks)
    for temperature in (1.0, 0.5):
        tokens = pick(logits.repeat(n, 1), temperature, noise)
        counts = torch.bincount(tokens, minlength=12).double().numpy()
        expected = n * (logits.double() / temperature).softmax(0).numpy()
        assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.001
    assert chisquare(counts, n * logits.double().softmax(0).numpy()).pvalue < 1e-6, "the test can tell temperatures"


def test_sampled_first_tokens_follow_the_model(model, tokenizer):
    n = 6400
    rollouts = generate(CachedModel(model), tokenizer, ["Q 1 A"] * n, max_new_tokens=1, batch_size=6400)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([encode(tokenizer, "Q 1 A")])).logits[0, -1].double().softmax(0)
    tokens = torch.tensor([r.completion_ids[0] if r.completion_ids else tokenizer.eos_token_id for r in rollouts])
    counts, expected = torch.bincount(tokens, minlength=len(expected)).numpy(), n * expected.numpy()
    common = expected > 5
    assert common.sum() > 5
    counts = [*counts[common], counts[~common].sum()]
    expected = [*expected[common], expected[~common].sum()]
    assert chisquare(counts, expected).pvalue > 0.001


def test_temperature_sharpens(model, tokenizer):
    greedy = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=6, temperature=0.0)
    cold = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=6, temperature=1e-4)
    warm = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=6, temperature=1.0)
    agree = [sum(a == b for a, b in zip(run, greedy, strict=True)) for run in (cold, warm)]
    assert agree[0] >= len(MANY) - 2 > agree[1]


def force(token, at, prompt_length):
    """Write `token` at the place `at` of the completion and never else."""

    def edit(tokens, logits, copy):
        if tokens.shape[1] - prompt_length == at:
            logits[:, :] = -torch.inf
            logits[:, token] = 0.0
        else:
            logits[:, token] = -torch.inf

    return edit


@pytest.mark.parametrize("at", [0, 3, 4, 5])
def test_finished_and_unfinished(model, tokenizer, at):
    prompt = "Q 1 + 1 A"
    edit = force(tokenizer.eos_token_id, at, len(encode(tokenizer, prompt)))
    (r,) = generate(CachedModel(model), tokenizer, [prompt], max_new_tokens=5, edits=[edit])
    assert r.finished == (at < 5)
    assert len(r.completion_ids) == min(at, 5)
    assert tokenizer.eos_token_id not in r.completion_ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_stops_at_the_first_of_its_end_tokens(model, tokenizer, temperature):
    """It is the completion without the further ends, up to the first of them: nothing else changes."""
    settings = {"max_new_tokens": 25, "temperature": temperature}
    whole = generate(CachedModel(model), tokenizer, MANY, **settings)
    ends = [vocabulary().index(word) for word in ("7", "wait", "+")]
    found = generate(CachedModel(model), tokenizer, MANY, end_ids=ends, **settings)
    lengths = []
    for r, before in zip(found, whole, strict=True):
        n = next((i for i, token in enumerate(before.completion_ids) if token in ends), None)
        assert r.completion_ids == before.completion_ids[:n]
        assert r.finished == (before.finished if n is None else True)
        assert r.text == tokenizer.decode(r.completion_ids)
        lengths.append(n)
    assert any(n is None for n in lengths) and any(n is not None for n in lengths)
    assert generate(CachedModel(model), tokenizer, MANY, end_ids=[tokenizer.eos_token_id], **settings) == whole


@pytest.mark.parametrize("end", ["<eos>", "7", "wait"])
def test_nothing_is_read_after_any_of_the_end_tokens(model, tokenizer, end):
    """Three of five prompts end at once, so that two go on; then these end, and the batch is done."""
    end_id, others = vocabulary().index(end), vocabulary().index("9")

    def edit(tokens, logits, copy):
        logits[:, :] = -torch.inf
        logits[:, others] = 0.0
        if len(logits) == 2 or tokens.shape[1] == longest:
            ends = slice(0, 3 if len(logits) == 5 else 2)
            logits[ends, others], logits[ends, end_id] = -torch.inf, 0.0

    longest = max(len(encode(tokenizer, p)) for p in PROMPTS)
    decoder = Counting(model)
    ends = [vocabulary().index(word) for word in ("7", "wait")]
    rollouts = generate(decoder, tokenizer, PROMPTS, max_new_tokens=20, end_ids=ends, edits=[edit])
    assert [len(r.completion_ids) for r in rollouts] == [0, 0, 0, 1, 1]
    assert all(r.finished for r in rollouts)
    assert decoder.read == 5 * longest + 2


def test_an_end_token_of_id_0_ends():
    """`if eos` and `or` would take it for none."""
    tokenizer = byte_tokenizer(["a b c d"])
    assert tokenizer.eos_token_id == 0
    model = small_model(0)
    model.resize_token_embeddings(len(tokenizer))
    prompts = ["a b", "a b c", "d"]
    edit = force(0, 4, 5)
    rollouts = generate(CachedModel(model), tokenizer, prompts, max_new_tokens=9, edits=[edit])
    encoded = [encode(tokenizer, p) for p in prompts]
    ids, mask = left_padded(encoded, 0, torch.device("cpu"))
    at = 4 + 5 - ids.shape[1]
    assert [len(r.completion_ids) for r in rollouts] == [at] * 3
    assert all(r.finished for r in rollouts)
    assert [r.prompt_ids for r in rollouts] == [encode(tokenizer, p) for p in prompts]
    assert mask.sum(1).tolist() == [len(encode(tokenizer, p)) for p in prompts]


def test_prompts_are_padded_on_the_left_with_nothing_added(tokenizer):
    encoded = [encode(tokenizer, p) for p in PROMPTS]
    ids, mask = left_padded(encoded, 0, torch.device("cpu"))
    for row, kept, prompt in zip(ids, mask.bool(), encoded, strict=True):
        assert row[kept].tolist() == prompt
        assert kept.tolist() == sorted(kept.tolist())


def test_no_prompts_no_rollouts(model, tokenizer):
    assert generate(CachedModel(model), tokenizer, [], max_new_tokens=3) == []
