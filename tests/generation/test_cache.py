"""The cache that grows in place gives what transformers' own gives."""

import itertools

import pytest
import torch
from small import small_model
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from interp.generation.cache import GrowingCache, GrowingLayer

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS = {
    "Llama": LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=4),
    "Llama, grouped heads": LlamaConfig(**SIZES, **HEADS),
    "Qwen2": Qwen2Config(**SIZES, **HEADS),
    "GPT-2": GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=1),
    "Mistral, a sliding window": MistralConfig(**SIZES, **HEADS, sliding_window=7),
    "Qwen2, windows in some layers": Qwen2Config(
        **SIZES, **HEADS, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
}


def made(config, attention="sdpa"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@torch.inference_mode()
def decode(model, cache, steps=24, rows=12, spread=1):
    """Logits of every step: rows of different lengths after a shared beginning, repeated and dropped on the way."""
    draw = torch.Generator().manual_seed(0)
    shared = torch.randint(3, 30, (rows, 5), generator=draw)
    found = [model(input_ids=shared, past_key_values=cache, use_cache=True).logits]
    cache.batch_repeat_interleave(spread)
    new = torch.randint(3, 30, (rows * spread, 4), generator=draw)
    padding = torch.arange(4) < torch.arange(len(new))[:, None] % 4
    mask = torch.cat([torch.ones(len(new), 5, dtype=torch.long), (~padding).long()], dim=1)
    for step in range(steps):
        positions = (mask.cumsum(1) - 1)[:, -new.shape[1] :]
        logits = model(
            input_ids=new, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits[:, -1]
        found.append(logits)
        new = logits.argmax(1, keepdim=True)
        if step % 5 == 4:
            kept = torch.arange(len(new))[torch.arange(len(new)) % 4 != step % 3]
            cache.batch_select_indices(kept)
            new, mask = new[kept], mask[kept]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
    return found


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("spread", [1, 3])
@pytest.mark.parametrize("room", [0, 6])
def test_it_gives_the_same_logits_to_the_bit(name, spread, room):
    model = made(CONFIGS[name])
    theirs, ours = DynamicCache(config=model.config), GrowingCache(model.config, room)
    for a, b in zip(decode(model, theirs, spread=spread), decode(model, ours, spread=spread), strict=True):
        assert torch.equal(a, b)
    for (k, v, _), (k2, v2, _) in zip(theirs, ours, strict=True):
        assert torch.equal(k, k2) and torch.equal(v, v2)
    assert ours.get_seq_length() == theirs.get_seq_length() == 5 + 4 + 23
    for layer, new in itertools.product(range(3), (1, 5)):
        assert ours.get_mask_sizes(new, layer) == theirs.get_mask_sizes(new, layer)
    assert ours.is_sliding == theirs.is_sliding


def test_it_gives_the_same_with_plain_attention_and_with_the_organisms_architecture():
    for model in (made(CONFIGS["Qwen2"], "eager"), small_model()):
        theirs, ours = decode(model, DynamicCache(config=model.config)), decode(model, GrowingCache(model.config))
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_only_full_attention_layers_are_replaced():
    kinds = [type(layer) for layer in GrowingCache(CONFIGS["Qwen2, windows in some layers"]).layers]
    assert kinds == [GrowingLayer, DynamicSlidingWindowLayer, DynamicSlidingWindowLayer]
    assert {type(layer) for layer in GrowingCache(CONFIGS["GPT-2"]).layers} == {GrowingLayer}


def states(rows, new, seed=0):
    """Keys of 3 heads of 8 and values of 3 heads of 5."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, new, 8, generator=draw), torch.randn(rows, 3, new, 5, generator=draw)


def same(ours, theirs):
    return torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_a_step_writes_its_own_positions_and_leaves_the_others_where_they_are():
    layer = GrowingLayer(10)
    layer.update(*states(4, 3))
    place, before = layer.keys.data_ptr(), layer.keys.clone()
    for seed in range(10):
        keys, _ = layer.update(*states(4, 1, seed + 1))
        assert keys.data_ptr() == place and torch.equal(keys[:, :, :3], before)
    layer.update(*states(4, 1, 99))
    assert layer.keys.data_ptr() != place and torch.equal(layer.keys[:, :, :3], before)


ACTIONS = {
    "keep some rows": lambda layer: layer.batch_select_indices(torch.tensor([0, 2, 3, 5])),
    "keep few rows": lambda layer: layer.batch_select_indices(torch.tensor([4])),
    "keep rows in another order, one twice": lambda layer: layer.batch_select_indices(torch.tensor([5, 1, 1, 0])),
    "more rows than there were": lambda layer: layer.batch_select_indices(torch.arange(6).repeat(2)),
    "repeat": lambda layer: layer.batch_repeat_interleave(3),
    "reorder": lambda layer: layer.reorder_cache(torch.tensor([5, 4, 3, 2, 1, 0])),
    "crop": lambda layer: layer.crop(-2),
    "offload": lambda layer: (layer.offload(), layer.prefetch()),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_is_done_to_a_layer_is_what_transformers_does(action):
    ours, theirs = GrowingLayer(8), DynamicLayer()
    for layer in (ours, theirs):
        ACTIONS[action](layer)  # nothing is held yet
        layer.update(*states(6, 4))
        layer.update(*states(6, 1, 1))
    for layer in (ours, theirs):
        ACTIONS[action](layer)
    assert same(ours, theirs)
    for seed in range(12):
        for layer in (ours, theirs):
            layer.update(*states(len(theirs.keys), 1 + seed % 2, 2 + seed))
        assert same(ours, theirs)
    for layer in (ours, theirs):
        layer.reset()
        layer.update(*states(2, 3, 5))
    assert same(ours, theirs) and ours.get_seq_length() == 3


def test_rows_are_dropped_in_place_until_half_of_them_is_left():
    layer = GrowingLayer(8)
    layer.update(*states(8, 4))
    place, whole = layer.keys.data_ptr(), layer.nbytes
    assert whole == 4 * 8 * 3 * 12 * (8 + 5)
    layer.batch_select_indices(torch.arange(1, 8))
    layer.batch_select_indices(torch.tensor([0, 1, 2, 5]))
    assert (layer.keys.data_ptr(), layer.nbytes) == (place, whole)
    layer.batch_select_indices(torch.tensor([0, 1, 3]))
    assert layer.nbytes == 4 * 3 * 3 * 4 * (8 + 5)
    assert torch.equal(layer.keys, states(8, 4)[0][[1, 2, 6]])


def test_gradients_pass_through_as_with_transformers():
    def gradient(layer):
        first, second = (tuple(part.requires_grad_() for part in states(2, 3, seed)) for seed in (0, 1))
        total = 0
        for keys, values in (first, second):
            k, v = layer.update(keys, values)
            total = total + (k.square().sum() * v.square().sum())
        total.backward()
        return first[0].grad

    assert torch.equal(gradient(GrowingLayer()), gradient(DynamicLayer()))


def test_what_was_read_in_inference_mode_is_continued_outside_of_it():
    ours, theirs = GrowingLayer(), DynamicLayer()
    for layer in (ours, theirs):
        with torch.inference_mode():
            layer.update(*states(2, 3))
        with torch.no_grad():
            layer.update(*states(2, 1, 1))
    assert same(ours, theirs)


def test_every_device_grows_the_same(device):
    ours, theirs = GrowingLayer(3), DynamicLayer()
    with torch.no_grad():
        for step in range(6):
            keys, values = states(4 if step < 3 else 3, 1, step)
            theirs.update(keys, values)
            ours.update(keys.to(device), values.to(device))
            if step == 2:
                theirs.batch_select_indices(torch.tensor([0, 1, 3]))
                ours.batch_select_indices(torch.tensor([0, 1, 3]).to(device))
    assert ours.keys.device.type == device.type
    assert torch.equal(ours.keys.cpu(), theirs.keys) and torch.equal(ours.values.cpu(), theirs.values)


@pytest.mark.parametrize("name", ["Llama, grouped heads", "Qwen2, windows in some layers"])
def test_bytes(name):
    model = made(CONFIGS[name])
    cache = GrowingCache(model.config, 10)
    assert cache.nbytes == sum(
        getattr(layer, "_sliding_window_tensor", torch.empty(0)).nbytes for layer in cache.layers
    )
    with torch.inference_mode():
        model(input_ids=torch.ones(3, 5, dtype=torch.long), past_key_values=cache, use_cache=True)
    position = 2 * 4 * 3 * 2 * 8  # keys and values, fp32, rows, heads, head_dim
    sliding = sum(cache.is_sliding)
    assert cache.nbytes == position * ((3 - sliding) * 15 + sliding * 5) + 8 * sliding


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_copies_of_rows_are_put_behind_the_last(name):
    """As picking all rows and the copies anew; after it, and after more of it, decoding goes on to the same logits."""
    model, draw = made(CONFIGS[name]), torch.Generator().manual_seed(1)
    ours, theirs = GrowingCache(model.config), DynamicCache(config=model.config)
    ids = torch.randint(3, 30, (3, 6), generator=draw)
    for cache in (ours, theirs):
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    rows = 3
    for more in ([1], [0, 3, 3], [], [6, 0, 1, 2, 5, 4, 3]):
        copies = torch.tensor(more, dtype=torch.long)
        ours.batch_append_indices(copies, rows)
        theirs.batch_select_indices(torch.cat([torch.arange(rows), copies]))
        rows += len(more)
        new = torch.randint(3, 30, (rows, 1), generator=draw)
        got, wanted = (model(input_ids=new, past_key_values=c, use_cache=True).logits for c in (ours, theirs))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_room_for_more_rows_is_taken_twice_as_large_until_positions_run_out():
    layer = GrowingLayer(room=4)
    layer.update(*states(4, 3))
    layer.batch_append_indices(torch.tensor([2]))
    first = layer._buffers[0].data_ptr()
    assert len(layer._buffers[0]) == 8 and layer.keys.shape[0] == 5
    layer.batch_append_indices(torch.tensor([0, 4]))
    assert layer._buffers[0].data_ptr() == first and layer.keys.shape[0] == 7
    for step in range(6):  # more positions than there is room for
        layer.update(*states(7, 1, seed=step))
    assert len(layer._buffers[0]) == 7 and layer.keys.shape == (7, 3, 9, 8)
