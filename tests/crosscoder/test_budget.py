"""The budget of memory against what training really takes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from interp.crosscoder import CrosscoderConfig, TrainConfig, budget, rows, train
from interp.crosscoder.budget import buffer_bytes, free_bytes, needed_bytes
from interp.crosscoder.feeds import open_feed
from interp.crosscoder.rows import Normaliser
from interp.crosscoder.trainer import Trainer
from interp.errors import InterpError

from .samples import CONFIG, random_rows


def peak(work):
    """Most bytes that torch held on the CPU at once during `work`, and all that it still held."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        kept = work()
    held = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most, kept


def trained(config, settings, dead):
    """A trainer after three updates in which this share of the latents is dead."""
    n_dead, width = int(dead * config.n_latents), (config.n_models, config.d_model)
    batch = torch.randn(settings.batch_size, *width, generator=torch.Generator().manual_seed(0))
    trainer = Trainer(config, settings, Normaliser(torch.zeros(width), torch.ones(width[0])), "cpu")
    with torch.no_grad():
        trainer.crosscoder.b_enc[:n_dead] = -1.0
    for _ in range(3):
        trainer._silent[:n_dead] = settings.dead_after_rows
        trainer.update(batch)
    return trainer


@pytest.mark.parametrize("latents_batch_width", [(4096, 512, 64), (1024, 1024, 192), (8192, 128, 96)])
@pytest.mark.parametrize(
    ("gate", "recipe", "dead"),
    [
        ({"k": 32}, {"aux_coefficient": 0.0}, 0.0),
        ({"k": 32}, {}, 0.95),
        ({"k": 32}, {"aux_coefficient": 0.0, "k_start": 200}, 0.0),
        ({"k": 32}, {"aux_coefficient": 0.0, "encoder_dtype": "bfloat16"}, 0.0),
        ({"k": 32, "activation": "topk"}, {}, 0.95),
        ({"activation": "relu"}, {"sparsity": 0.1}, 0.0),
        ({"activation": "relu"}, {"sparsity": 0.1}, 0.95),
        ({"activation": "jumprelu"}, {"sparsity": 0.1}, 0.0),
    ],
)
def test_the_budget_is_what_training_takes(gate, recipe, dead, latents_batch_width):
    n_latents, batch_size, d_model = latents_batch_width
    config = CrosscoderConfig(n_models=2, d_model=d_model, n_latents=n_latents, **gate)
    settings = TrainConfig(batch_size=batch_size, **recipe)
    taken, _ = peak(lambda: trained(config, settings, dead))
    counted = sum(needed_bytes(config, settings).values())
    assert 0.9 * taken < counted < 1.6 * taken


def test_the_weights_gradients_and_moments_are_counted_to_the_byte():
    config, settings = CrosscoderConfig(n_models=3, d_model=40, n_latents=300, k=5), TrainConfig(batch_size=128)
    trainer = trained(config, settings, 0.0)
    weights = list(trainer.crosscoder.parameters())
    needed = needed_bytes(config, settings)
    assert needed["weights"] == sum(w.numel() * 4 for w in weights)
    assert needed["gradients"] == sum(w.grad.numel() * 4 for w in weights)
    moments = [t for name, t in trainer.state().items() if name.endswith(("exp_avg", "exp_avg_sq"))]
    assert needed["moments"] == sum(t.numel() * 4 for t in moments)


def test_a_wide_batch_of_few_latents_is_counted():
    config = CrosscoderConfig(n_models=2, d_model=512, n_latents=4, k=1)
    settings = TrainConfig(batch_size=4096, aux_coefficient=0.0)
    taken, _ = peak(lambda: trained(config, settings, 0.0))
    counted = sum(needed_bytes(config, settings).values())
    assert 0.95 * taken < counted < 1.05 * taken


def test_an_encoder_in_bfloat16_is_a_copy_of_half_the_size():
    config = CrosscoderConfig(n_models=3, d_model=40, n_latents=300, k=5)
    both = {dtype: needed_bytes(config, TrainConfig(encoder_dtype=dtype)) for dtype in ("float32", "bfloat16")}
    assert both["float32"]["encoder in bfloat16"] == 0
    assert both["bfloat16"]["encoder in bfloat16"] == 2 * 3 * 40 * 300
    assert both["bfloat16"]["pre-activations"] == both["float32"]["pre-activations"] // 2


def test_a_stream_takes_one_buffer(monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 1 << 14)
    config, settings = (
        CrosscoderConfig(n_models=2, d_model=64, n_latents=8, k=1),
        TrainConfig(shuffle_rows=40_000, batch_size=256, steps=400),
    )

    class Stream:
        def __iter__(self):
            generator = torch.Generator().manual_seed(0)
            return (torch.randn(500, 2, 64, generator=generator) for _ in range(120))

    def work():
        feed = open_feed(Stream(), config, settings)
        assert sum(1 for _ in feed.batches(0)) == 400
        return feed

    taken, feed = peak(work)
    assert feed._buffer.n <= budget.buffer_rows(settings)
    assert 0.9 * taken < buffer_bytes(config, settings) < 1.3 * taken


def test_work_that_cannot_fit_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr(budget, "free_bytes", lambda device: 10**6)
    huge = CONFIG.model_copy(update={"n_latents": 10**4})
    with pytest.raises(InterpError, match=r"needs 0\.\d+ GB \(weights .*0\.0 GB are free on cpu; lower n_latents"):
        train(random_rows(100), huge, TrainConfig(steps=1))


def test_a_streams_buffer_counts_too(monkeypatch):
    shape, settings = CONFIG, TrainConfig(steps=1, batch_size=32, shuffle_rows=10**5)
    updates = sum(needed_bytes(shape, settings).values())
    monkeypatch.setattr(budget, "free_bytes", lambda device: updates + buffer_bytes(shape, settings) - 1)
    train(random_rows(100), shape, settings)
    with pytest.raises(InterpError, match=r"stream's buffer 0\.01.*lower n_latents, batch_size or shuffle_rows"):
        train([random_rows(100)], shape, settings)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(InterpError, match=f"device {device}: not there"):
        train(random_rows(100), CONFIG, TrainConfig(steps=1), device=device)


def test_something_is_free_here():
    assert 10**7 < free_bytes("cpu") < 10**15


def test_reserved_memory_that_torch_does_not_use_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 30)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)  # there is a device
    assert free_bytes("cuda:0") == 140


def test_main_memory_is_that_of_the_control_group(monkeypatch):
    from interp.memory import Memory

    monkeypatch.setattr("interp.memory.main_memory", lambda: Memory(2000, 1234))
    assert free_bytes("cpu") == 1234
