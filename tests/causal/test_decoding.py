"""Edited generation against the plain sampler, and against reading the whole sequence again without a cache."""

import pytest
import torch
from small import D_MODEL, code64, small_crosscoder

from interp.causal.decoding import EditedDecoder
from interp.causal.edits import AddDirection, scale_sets
from interp.generation.sampling import CachedModel, generate, generate_copies, left_padded
from interp.models.sites import editing, read_residual
from interp.traces.tokens import encode

PROMPTS = ["Q 7 + 5 - 3 A", "Q 1 * 2 A", "Q 3 - 3 + 4 * 9 A", "A", "Q 8 + 8 A wait ,"]
LAYER = 1
SETS = [[1, 2, 3, 5], [7, 8, 11, 17]]


def ids_of(rollouts):
    return [r.completion_ids for r in rollouts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("skip_first", [0, 2])
def test_identity_edits_generate_what_the_plain_model_generates(models, tokenizer, temperature, skip_first):
    plain = generate(CachedModel(models["distilled"]), tokenizer, PROMPTS, max_new_tokens=25, temperature=temperature)
    identity = scale_sets(small_crosscoder(), 1, [[1, 4, 9]], 1.0, untouched_first=False)
    for edit, along in ((identity, True), (AddDirection(torch.zeros(1, D_MODEL)), False)):
        decoder = EditedDecoder(models, "distilled", LAYER, edit, read_along=along, skip_first=skip_first)
        edited = generate(decoder, tokenizer, PROMPTS, max_new_tokens=25, temperature=temperature)
        assert edited == plain


def test_identity_edits_leave_the_logits_to_the_bit(models, tokenizer):
    ids, mask = left_padded([encode(tokenizer, p) for p in PROMPTS], 0, torch.device("cpu"))
    copy = torch.zeros(len(PROMPTS), dtype=torch.long)
    identity = scale_sets(small_crosscoder(), 1, [[1, 4, 9]], 1.0, untouched_first=False)
    plain, edited = CachedModel(models["distilled"]), EditedDecoder(models, "distilled", LAYER, identity)
    with torch.inference_mode():
        for step in range(4):
            expected, got = plain.step(ids, mask, copy), edited.step(ids, mask, copy)
            assert torch.equal(got, expected), step
            ids = expected.argmax(1, keepdim=True)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)


def recomputed(models, row, change, skip_first):
    """Logits after the last of `row`'s tokens, everything read anew, the residual changed from `skip_first` on."""
    ids = torch.tensor([row])
    x = torch.stack([read_residual(m, LAYER, input_ids=ids, use_cache=False)[0] for m in models.values()], dim=1)
    delta = change(x)
    delta[:skip_first] = 0
    with editing(models["distilled"], LAYER, lambda h: h + delta[None]):
        return models["distilled"](input_ids=ids, use_cache=False).logits[0, -1]


def steering(copy):
    vectors = torch.stack([torch.zeros(D_MODEL), 4 * torch.sin(torch.arange(D_MODEL).float())])
    return AddDirection(vectors), lambda x: vectors[copy].expand(len(x), -1).clone()


def ablation(copy):
    cc = small_crosscoder()

    def by_hand(x):
        f = code64(cc, x)[:, SETS[copy]]
        return -(f @ (cc.W_dec[SETS[copy], 1].double() / cc.scale[1].double())).float()

    return scale_sets(cc, 1, SETS, 0.0, untouched_first=False), by_hand


@pytest.mark.parametrize("make", [steering, ablation])
@pytest.mark.parametrize("skip_first", [0, 3])
@torch.inference_mode()
def test_prefill_and_decoding_edit_the_positions_that_a_full_reading_edits(models, tokenizer, make, skip_first):
    """Two copies of prompts of different lengths, six tokens on: at each step every row's logits are those of its
    whole sequence read without a cache. An edit one position off, one that stops after the prompt, or one that
    touches the padding or the skipped positions would show."""
    edit, _ = make(0)
    decoder = EditedDecoder(models, "distilled", LAYER, edit, read_along=make is ablation, skip_first=skip_first)
    ids, mask = left_padded([encode(tokenizer, p) for p in PROMPTS * 2], 0, torch.device("cpu"))
    copy = torch.arange(len(ids)) // len(PROMPTS)
    rows = [tokenizer.encode(p, add_special_tokens=False) for p in PROMPTS * 2]
    for step in range(6):
        logits = decoder.step(ids, mask, copy)
        for i, row in enumerate(rows):
            by_hand = make(int(copy[i]))[1]
            expected = recomputed(models, row, by_hand, skip_first)
            torch.testing.assert_close(
                logits[i], expected, atol=2e-3, rtol=1e-3, msg=lambda m, at=(step, i): f"{at}: {m}"
            )
        ids = logits.argmax(1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        for row, token in zip(rows, ids[:, 0].tolist(), strict=True):
            row.append(token)
    if make is steering:
        first, second = rows[: len(PROMPTS)], rows[len(PROMPTS) :]
        assert first != second, "the vector changed nothing; the test would pass without it"


@torch.inference_mode()
def test_one_position_off_would_show(models, tokenizer):
    """The tolerance above is far below what a shifted edit does."""
    row = tokenizer.encode(PROMPTS[0], add_special_tokens=False)
    _, by_hand = steering(1)
    right = recomputed(models, row, by_hand, 3)
    assert (right - recomputed(models, row, by_hand, 4)).abs().max() > 0.05
    assert (right - recomputed(models, row, by_hand, 2)).abs().max() > 0.05


def test_rows_that_finish_early_do_not_disturb_the_others(models, tokenizer):
    """Sampled texts end at different times, so that rows leave the batch; each prompt alone must say the same."""
    edit = scale_sets(small_crosscoder(), 1, SETS, 0.0)

    def run(prompts):
        decoder = EditedDecoder(models, "distilled", LAYER, edit, skip_first=1)
        return generate_copies(decoder, tokenizer, prompts, 3, max_new_tokens=30, temperature=0.0)

    together = run(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        for copy, alone in enumerate(run([prompt])):
            assert alone[0] == together[copy][i]


def test_a_shared_beginning_is_edited_as_each_copy_asks(models, tokenizer, monkeypatch):
    """It is read once a copy instead of once a prompt; alone, a prompt has no beginning to share."""
    prompts = ["Q 1 + 2 - 3 A 1 + 2 = 3 , 3 - 3 = 0 " * 3 + p for p in PROMPTS]
    edit = scale_sets(small_crosscoder(), 1, SETS, 0.0)

    def run():
        decoder = EditedDecoder(models, "distilled", LAYER, edit, skip_first=1)
        return generate_copies(decoder, tokenizer, prompts, 3, max_new_tokens=30, temperature=0.0)

    shared = run()
    monkeypatch.setattr("interp.traces.tokens.SHARED", 10**9)
    assert shared == run()
    assert shared[0] != shared[1] != shared[2]


def test_copy_0_of_an_edited_run_is_the_untouched_run(models, tokenizer):
    edit = scale_sets(small_crosscoder(), 1, [list(range(24))], 0.0)
    decoder = EditedDecoder(models, "distilled", LAYER, edit)
    untouched, ablated = generate_copies(decoder, tokenizer, PROMPTS, 2, max_new_tokens=25)
    plain = generate(CachedModel(models["distilled"]), tokenizer, PROMPTS, max_new_tokens=25)
    assert ids_of(untouched) == ids_of(plain)
    assert ids_of(ablated) != ids_of(plain)


def test_the_hooks_are_gone_afterwards(models, tokenizer):
    before = [dict(module._forward_hooks) for model in models.values() for module in model.modules()]
    decoder = EditedDecoder(models, "distilled", LAYER, AddDirection(torch.ones(1, D_MODEL)))
    generate(decoder, tokenizer, PROMPTS, max_new_tokens=3)
    assert [dict(module._forward_hooks) for model in models.values() for module in model.modules()] == before
