import itertools

import pytest
import torch
from scipy.stats import chisquare
from small import byte_tokenizer, small_model
from transformers import AutoModelForCausalLM, MistralConfig

from interp.generation.noise import gumbel
from interp.generation.part import Job
from interp.generation.sampling import CachedModel, generate, left_padded, pick, write, writing
from interp.organisms.chains import CHAINS
from interp.organisms.tokenizers import vocabulary
from interp.traces.tokens import SHARED, encode

PROMPTS = ["Q 7 + 5 - 3 A", "A", "Q 3 - 3 + 4 * 9 A", "Q 8 A wait , then", "Q 1 A"]
MANY = [f"Q {i % 10} + {i // 10 % 10} A{' wait' * (i % 4)}" for i in range(120)]


class Edits:
    """Edits of the text made of two functions of a part."""

    by_row = False

    def __init__(self, before=lambda part: None, after=lambda part: None):
        self.before, self.after = before, after


def jobs_of(tokenizer, prompts, *edits):
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    return [Job(encoded, range(len(prompts)), edit) for edit in edits]


def written(decoder, tokenizer, jobs, max_new_tokens, temperature=1.0, seed=0, ends=()):
    return write(decoder, tokenizer, jobs, writing(tokenizer, max_new_tokens, temperature, seed, ends))


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
        assert (r.completion_ids, r.finished) == without_cache(model, tokenizer, prompt, 30)
        assert r.prompt_ids == encode(tokenizer, prompt)
        assert r.text == tokenizer.decode(r.completion_ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_company_and_its_padding_change_nothing(model, tokenizer, temperature):
    together = generate(CachedModel(model), tokenizer, PROMPTS, max_new_tokens=30, temperature=temperature)
    for i, prompt in enumerate(PROMPTS):
        job = Job([encode(tokenizer, prompt)], [i])
        assert written(CachedModel(model), tokenizer, [job], 30, temperature)[0] == [together[i]]


class Counting(CachedModel):
    """Counts the positions that it reads."""

    def start(self):
        super().start()
        self.read = 0

    def step(self, ids, mask, parts):
        self.read += ids.numel()
        return super().step(ids, mask, parts)


SHOTS = "Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_what_all_prompts_begin_with_is_read_once_a_job(model, tokenizer, n_jobs):
    prompts = [SHOTS + p for p in PROMPTS]
    decoder = Counting(model)
    together = written(decoder, tokenizer, jobs_of(tokenizer, prompts, *[None] * n_jobs), 16, 0.0)
    beginning = len(encode(tokenizer, SHOTS))
    widest = max(len(encode(tokenizer, p)) for p in PROMPTS)
    most = n_jobs * (beginning + len(prompts) * (widest + 15))
    assert beginning >= SHARED and decoder.read <= most < n_jobs * len(prompts) * beginning + most
    for rollouts in together:
        for prompt, r in zip(prompts, rollouts, strict=True):
            assert (r.completion_ids, r.finished) == without_cache(model, tokenizer, prompt, 16)
            assert r.prompt_ids == encode(tokenizer, prompt)


def windowed(vocab, window):
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    model = AutoModelForCausalLM.from_config(MistralConfig(**sizes, **heads, sliding_window=window))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("window", [9, 4096])
def test_padding_behind_what_is_shared_is_no_distance_in_a_window(tokenizer, window):
    model, prompts = windowed(len(tokenizer), window), [SHOTS + p for p in PROMPTS]
    decoder = Counting(model)
    how = {"max_new_tokens": 12, "temperature": 0.0}
    together = generate(decoder, tokenizer, prompts, **how)
    alone = [generate(CachedModel(model), tokenizer, [prompt], **how)[0] for prompt in prompts]
    assert [r.completion_ids for r in together] == [r.completion_ids for r in alone]
    in_full = sum(len(encode(tokenizer, SHOTS)) for _ in prompts)
    assert (decoder.read < in_full) == (window == 4096)


def test_the_same_prompt_several_times_still_leaves_a_token_to_read(model, tokenizer):
    prompts = [SHOTS + "Q 1 A"] * 3
    rollouts = generate(CachedModel(model), tokenizer, prompts, max_new_tokens=16, temperature=0.0)
    assert [(r.completion_ids, r.finished) for r in rollouts] == [without_cache(model, tokenizer, prompts[0], 16)] * 3


def test_the_size_of_a_batch_changes_nothing(model, tokenizer):
    def run(size):
        heard = []
        decoder = CachedModel(model)
        found = generate(decoder, tokenizer, MANY, max_new_tokens=8, batch_size=size, on_batch=heard.append)
        assert sum(heard) == len(MANY) and max(heard) <= size
        return found

    assert run(17) == run(4096)


def test_every_job_is_the_run_alone_however_jobs_are_packed(model, tokenizer):
    """Whole jobs, a part of one with numbers of its own, and one without a prompt."""
    alone = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=12)
    whole, same = jobs_of(tokenizer, MANY, None, Edits())
    part = Job([whole.prompts[i] for i in (90, 3, 4)], [90, 3, 4])
    found = written(CachedModel(model), tokenizer, [part, whole, Job([], []), same], 12)
    assert found == [[alone[90], alone[3], alone[4]], alone, [], alone]
    edited = Job(part.prompts, part.numbers, Edits())
    assert written(CachedModel(model), tokenizer, [edited], 12) == found[:1], "in whatever order"


def test_seeds_and_numbers_have_noise_of_their_own(model, tokenizer):
    same = ["Q 1 + 1 A"] * 130
    one, again, other = (generate(CachedModel(model), tokenizer, same, max_new_tokens=12, seed=s) for s in (0, 0, 1))
    assert one == again
    texts, others = [r.text for r in one], [r.text for r in other]
    assert len(set(texts)) > 110
    assert sum(a == b for a, b in zip(texts, others, strict=True)) < 10


class Flat:
    """Every token but the end is equally likely, so that its completions show the noise."""

    device = torch.device("cpu")

    def __init__(self, vocab):
        self.vocab = vocab

    def start(self):
        pass

    def sees_all(self, positions):
        return True

    def step(self, ids, mask, parts):
        logits = torch.zeros(len(ids), self.vocab)
        logits[:, 1] = -torch.inf  # the end
        return logits

    def select(self, rows):
        pass


def test_no_two_prompts_share_their_noise_whatever_their_seeds(tokenizer):
    """Two of these 4,000 texts of six tokens among 2,000 agree by chance once in 10^12."""
    seen = {}
    for seed in (*range(6), 63, 64, 65, 128, 129, 192, 320, 1000, 1001, 4000, 4096, 10_000, 10_001, 65_536):
        for i, r in enumerate(generate(Flat(2000), tokenizer, ["Q"] * 200, max_new_tokens=6, seed=seed)):
            where = seen.setdefault(tuple(r.completion_ids), (seed, i))
            assert where == (seed, i)


def test_an_edit_of_one_job_leaves_the_others_and_their_noise(model, tokenizer):
    nine = vocabulary(CHAINS.tokenizer()).index("9")

    def only_nine(part):
        keep = torch.zeros(part.logits.shape[1], dtype=torch.bool)
        keep[nine] = True
        part.logits.masked_fill_(~keep, -torch.inf)

    alone = generate(CachedModel(model), tokenizer, MANY, max_new_tokens=8)
    found = written(CachedModel(model), tokenizer, jobs_of(tokenizer, MANY, None, Edits(only_nine), None), 8)
    assert found[0] == found[2] == alone
    assert {r.text for r in found[1]} == {" ".join("9" * 8)}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_edit_meets_the_noise_of_an_unedited_run(model, tokenizer, temperature):
    """Which is made on two ways: `logits / temperature + noise`, by hand, is what the run without edits chose."""
    seen = {}

    def look(part):
        assert (part.noise is None) == (temperature == 0)
        for i, row in enumerate(part.rows):
            if not part.done[i]:
                noise = (
                    0 if part.noise is None else gumbel(3, part.numbers[i : i + 1], part.step, len(part.logits[0]))[0]
                )
                assert part.noise is None or torch.equal(part.noise[i], noise)
                seen[row, part.step] = int((part.logits[i] / (temperature or 1) + noise).argmax())

    plain = generate(CachedModel(model), tokenizer, MANY[:30], max_new_tokens=8, temperature=temperature, seed=3)
    written(CachedModel(model), tokenizer, jobs_of(tokenizer, MANY[:30], Edits(look)), 8, temperature, 3)
    for row, r in enumerate(plain):
        assert [seen[row, step] for step in range(len(r.completion_ids))] == r.completion_ids


def test_an_edit_sees_the_text_so_far(model, tokenizer):
    seen = []

    def look(part):
        seen.append((part.prompts[0] + part.written[0], int(part.logits.argmax(1)), part.step, part.last(0)))

    written(CachedModel(model), tokenizer, jobs_of(tokenizer, PROMPTS[:1], Edits(look)), 4, 0.0)
    assert seen[0][0] == encode(tokenizer, PROMPTS[0])
    assert [step for *_, step, _ in seen] == list(range(len(seen)))
    assert all(last == text[-1] for text, *_, last in seen)
    for (before, token, *_), (after, *_) in itertools.pairwise(seen):
        assert after == [*before, token]


def test_samples_follow_the_softmax():
    torch.manual_seed(0)
    logits, n = 1.5 * torch.randn(12), 64_000
    noise = gumbel(0, torch.arange(n), 0, 12)
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


def only_at(token, at):
    """Write `token` at the place `at` of the completion and never else."""

    def before(part):
        for i, tokens in enumerate(part.written):
            if len(tokens) == at:
                part.logits[i] = -torch.inf
                part.logits[i, token] = 0.0
            else:
                part.logits[i, token] = -torch.inf

    return Edits(before)


@pytest.mark.parametrize("at", [0, 3, 4, 5])
def test_finished_and_unfinished(model, tokenizer, at):
    jobs = jobs_of(tokenizer, ["Q 1 + 1 A"], only_at(tokenizer.eos_token_id, at))
    ((r,),) = written(CachedModel(model), tokenizer, jobs, 5)
    assert r.finished == (at < 5)
    assert len(r.completion_ids) == min(at, 5)
    assert tokenizer.eos_token_id not in r.completion_ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_stops_at_the_first_of_its_end_tokens(model, tokenizer, temperature):
    """It is the completion without the further ends, up to the first of them: nothing else changes."""
    settings = {"max_new_tokens": 25, "temperature": temperature}
    whole = generate(CachedModel(model), tokenizer, MANY, **settings)
    ends = [vocabulary(CHAINS.tokenizer()).index(word) for word in ("7", "wait", "+")]
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
    end_id, other = vocabulary(CHAINS.tokenizer()).index(end), vocabulary(CHAINS.tokenizer()).index("9")

    def before(part):
        part.logits[:, :] = -torch.inf
        for i, row in enumerate(part.rows):
            part.logits[i, end_id if row < 3 or part.step else other] = 0.0

    longest = max(len(encode(tokenizer, p)) for p in PROMPTS)
    decoder, ends = Counting(model), [vocabulary(CHAINS.tokenizer()).index(word) for word in ("7", "wait")]
    (rollouts,) = written(decoder, tokenizer, jobs_of(tokenizer, PROMPTS, Edits(before)), 20, ends=ends)
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
    (rollouts,) = written(CachedModel(model), tokenizer, jobs_of(tokenizer, prompts, only_at(0, 4)), 9)
    assert [len(r.completion_ids) for r in rollouts] == [4] * 3
    assert all(r.finished for r in rollouts)
    assert [r.prompt_ids for r in rollouts] == [encode(tokenizer, p) for p in prompts]


def test_prompts_are_padded_on_the_left_with_nothing_added(tokenizer):
    encoded = [encode(tokenizer, p) for p in PROMPTS]
    ids, mask = left_padded(encoded, 0, torch.device("cpu"))
    for row, kept, prompt in zip(ids, mask.bool(), encoded, strict=True):
        assert row[kept].tolist() == prompt
        assert kept.tolist() == sorted(kept.tolist())


def test_no_prompts_no_rollouts(model, tokenizer):
    assert generate(CachedModel(model), tokenizer, [], max_new_tokens=3) == []
