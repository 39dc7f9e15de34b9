import pytest
import torch

from interp.crosscoder import CrosscoderConfig, TrainConfig, budget, train
from interp.crosscoder.budget import free_bytes, needed_bytes
from interp.crosscoder.trainer import Trainer
from interp.errors import InterpError

from .samples import CONFIG, random_rows


def test_the_weights_gradients_and_moments_are_counted_to_the_byte():
    config, settings = CrosscoderConfig(n_models=3, d_model=40, n_latents=300, k=5), TrainConfig(batch_size=128)
    from interp.crosscoder.rows import Normaliser

    trainer = Trainer(config, settings, Normaliser(torch.zeros(3, 40), torch.ones(3)), "cpu")
    trainer.update(torch.randn(128, 3, 40))
    weights = list(trainer.crosscoder.parameters())
    needed = needed_bytes(config, settings)
    assert needed["weights"] == sum(w.numel() * 4 for w in weights)
    assert needed["gradients"] == sum(w.grad.numel() * 4 for w in weights)
    moments = [t for name, t in trainer.state().items() if name.endswith(("exp_avg", "exp_avg_sq"))]
    assert needed["moments"] == sum(t.numel() * 4 for t in moments)


def test_work_that_cannot_fit_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr(budget, "free_bytes", lambda device: 10**6)
    huge = CONFIG.model_copy(update={"n_latents": 10**4})
    with pytest.raises(InterpError, match=r"needs 0\.\d+ GB \(weights .*0\.0 GB are free on cpu; lower n_latents"):
        train(random_rows(100), huge, TrainConfig(steps=1))


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(InterpError, match=f"device {device}: not there"):
        train(random_rows(100), CONFIG, TrainConfig(steps=1), device=device)


def test_something_is_free_here():
    assert 10**7 < free_bytes("cpu") < 10**15
