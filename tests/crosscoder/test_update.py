"""`Trainer.update` against plain training: dense autograd, torch.optim.Adam, every schedule by hand; all in float64,
since Adam's first steps follow the sign of a gradient, however small."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from interp.crosscoder import Crosscoder, CrosscoderConfig, TrainConfig
from interp.crosscoder.encoder import Encoder
from interp.crosscoder.rows import Normaliser
from interp.crosscoder.trainer import Trainer
from interp.errors import InterpError

from . import reference
from .samples import random_rows

STEPS, BATCH, LATENTS = 40, 32, 60
SHAPE = {"n_models": 3, "d_model": 8, "n_latents": LATENTS}
RECIPE = {
    "steps": STEPS,
    "batch_size": BATCH,
    "lr": 5e-3,
    "warmup_fraction": 0.2,
    "decay_fraction": 0.3,
    "dead_after_rows": 3 * BATCH,
    "aux_coefficient": 0.7,
    "grad_clip": 3.5,
    "k_aux": 3,
    "log_every": 1,
}
CASES = {
    "batch_topk": ({"k": 1}, {"k_start": 7, "k_anneal_fraction": 0.25}),
    "batch_topk, clipped": ({"k": 1}, {"grad_clip": 0.3}),
    "batch_topk, dedicated": ({"k": 1, "n_dedicated": 4}, {"shared_init": 0.0, "transposed_init": False}),
    "batch_topk, frozen decoder": ({"k": 1}, {"freeze_decoder": True, "transposed_init": False}),
    "batch_topk, no AuxK": ({"k": 1}, {"aux_coefficient": 0.0}),
    "batch_topk, AuxK by default": ({"k": 1}, {"k_aux": None}),
    "topk": ({"k": 1, "activation": "topk"}, {"k_start": 3, "k_anneal_fraction": 0.5}),
    "jumprelu": ({"activation": "jumprelu"}, {"sparsity": 0.1, "sparsity_warmup_fraction": 0.5, "bandwidth": 0.6}),
    "relu": ({"activation": "relu"}, {"sparsity": 0.2, "sparsity_warmup_fraction": 0.5, "dead_after_rows": BATCH}),
}


def case(name):
    shape, recipe = CASES[name]
    return CrosscoderConfig(**SHAPE | shape), TrainConfig(**RECIPE | recipe)


NORMALISER = Normaliser(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.5, 1.0, 0.25]))


def batches():
    return random_rows(STEPS * BATCH, CrosscoderConfig(**SHAPE, k=1)).split(BATCH)


def quieted(crosscoder):
    """A third of the latents starts with so low a bias that it fires seldom or never."""
    with torch.no_grad():
        crosscoder.b_enc[::3] = -3.0
    return crosscoder


class Plain:
    """What `Trainer` documents, step by step."""

    def __init__(self, config, recipe):
        self.shape, self.recipe, self.step = config, recipe, 0
        start = Crosscoder(config, recipe.seed, shared=recipe.shared_init, transposed=recipe.transposed_init)
        self.crosscoder = quieted(start).double()
        self.weights = dict(self.crosscoder.named_parameters())
        self.adam = torch.optim.Adam(self.weights.values(), betas=(0.9, 0.999), eps=1e-8)
        self.silent = torch.zeros(LATENTS, dtype=torch.long)

    def k(self):
        if self.shape.k is None or self.recipe.k_start is None:
            return self.shape.k
        done = min(1.0, (self.step - 1) / (self.recipe.k_anneal_fraction * STEPS))
        return round((1 - done) * self.recipe.k_start + done * self.shape.k)

    def lr(self):
        up = self.step / (self.recipe.warmup_fraction * STEPS)
        down = (STEPS + 1 - self.step) / (self.recipe.decay_fraction * STEPS)
        return self.recipe.lr * min(up, 1.0, down)

    def sparsity(self):
        return self.recipe.sparsity * min(1.0, self.step / (self.recipe.sparsity_warmup_fraction * STEPS))

    def update(self, rows):
        self.step += 1
        x = reference.normalise(rows, NORMALISER.mean, NORMALISER.scale[:, None])
        pre, f, penalty = reference.training_code(self.crosscoder, x, self.k(), self.recipe.bandwidth)
        x_hat = reference.reconstruct(f, self.crosscoder.W_dec, self.crosscoder.b_dec)
        loss, dead = reference.loss(x_hat, x), self.silent >= self.recipe.dead_after_rows
        aux = torch.zeros(())
        if dead.any():
            aux = reference.aux(pre, self.crosscoder.W_dec, (x - x_hat).detach(), dead, self.recipe.k_aux or 4)
        self.adam.zero_grad()
        (loss + self.recipe.aux_coefficient * aux + self.sparsity() * penalty).backward()
        for latent in range(LATENTS - 3 * self.shape.n_dedicated, LATENTS):
            for model in range(3):
                if (latent - LATENTS + 3 * self.shape.n_dedicated) // self.shape.n_dedicated != model:
                    self.weights["decoder"].grad[latent, 8 * model : 8 * model + 8] = 0
        if self.recipe.freeze_decoder:
            self.weights["decoder"].grad.zero_()
        norm = math.sqrt(sum(float(w.grad.square().sum()) for w in self.weights.values()))
        for weight in self.weights.values():
            weight.grad *= min(1.0, self.recipe.grad_clip / (norm + 1e-6))  # the 1e-6 is torch's
        for group in self.adam.param_groups:
            group["lr"] = self.lr()
        self.adam.step()
        self.silent = torch.where((f > 0).any(0), 0, self.silent + len(x))
        active = float((f > 0).sum()) / len(x)
        found = {"loss": loss, "aux": aux, "penalty": penalty, "dead": dead, "x": x, "x_hat": x_hat}
        return SimpleNamespace(**{key: t.detach() for key, t in found.items()}, l0=active, norm=norm)


def started(name):
    trainer = Trainer(*case(name), NORMALISER, "cpu")
    quieted(trainer.crosscoder)
    return trainer


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", CASES)
def test_every_update_is_that_of_plain_training(name):
    trainer, plain, seen = started(name), Plain(*case(name)), []
    trainer._encoder = Encoder(torch.float64)
    recipe = trainer.config
    for step, rows in enumerate(batches(), 1):
        found, truth = trainer.update(rows), plain.update(rows)
        for weight, exact in plain.weights.items():  # one step moves them by 6e-4 and more
            assert (trainer.crosscoder.get_parameter(weight) - exact).abs().max() < 2e-6, (step, weight)
        assert found["step"] == step and found["lr"] == pytest.approx(plain.lr(), rel=1e-12)
        assert found["loss"] == pytest.approx(float(truth.loss), rel=1e-5)
        assert found["penalty"] == pytest.approx(float(truth.penalty), rel=1e-5)
        assert found["aux"] == pytest.approx(float(truth.aux) if recipe.aux_coefficient else 0.0, rel=1e-6)
        assert found["l0"] == pytest.approx(truth.l0)
        assert found["dead_share"] == pytest.approx(float(truth.dead.double().mean()))
        for m in range(3):
            fve = 1 - (truth.x_hat - truth.x)[:, m].square().sum() / truth.x[:, m].square().sum()
            assert found[f"fve_{m}"] == pytest.approx(float(fve), abs=1e-5)
        seen.append(truth)
    # What is compared was in play: dead latents, some of which come back; AuxK; gradients above and below the clip.
    shares = [float(truth.dead.double().mean()) for truth in seen]
    assert 0 < max(shares) < 1 and any(b < a for a, b in itertools.pairwise(shares))
    assert any(float(truth.aux) > 0 for truth in seen)
    norms = [truth.norm for truth in seen]
    assert max(norms) > recipe.grad_clip and (min(norms) < recipe.grad_clip or name == "batch_topk, clipped")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stop", [3, 21])
def test_a_restored_trainer_goes_on_to_the_same_bits(name, stop):
    """Also with latents dead, AuxK at work and schedules under way."""
    whole = started(name)
    logs = [whole.update(rows) for rows in batches()]
    first = started(name)
    for rows in batches()[:stop]:
        first.update(rows)
    state = {key: tensor.clone() for key, tensor in first.state().items()}
    second = Trainer(*case(name), NORMALISER, "cpu")
    second.restore(state)
    assert second.step == stop
    assert [second.update(rows) for rows in batches()[stop:]] == logs[stop:]
    for key, tensor in whole.state().items():
        assert torch.equal(second.state()[key], tensor), key
    assert stop == 3 or logs[stop]["dead_share"] > 0


def test_metrics_come_every_log_every_steps_and_at_the_last():
    config, recipe = case("batch_topk")
    trainer = Trainer(config, recipe.model_copy(update={"log_every": 7}), NORMALISER, "cpu")
    assert [step for step, rows in enumerate(batches(), 1) if trainer.update(rows)] == [7, 14, 21, 28, 35, 40]


def test_weights_that_are_not_finite_are_refused():
    trainer = started("relu")
    trainer.update(batches()[0])
    trainer.refuse_diverged()
    with torch.no_grad():
        trainer.crosscoder.b_dec[1, 2] = torch.inf
    with pytest.raises(InterpError, match=r"b_dec holds NaN or infinite values after step 1; lower lr=0\.005"):
        trainer.refuse_diverged()
