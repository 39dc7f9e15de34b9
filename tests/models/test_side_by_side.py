"""Micro-batches side by side: the same weights to the bit, however many threads there are."""

import pytest
import torch
from transformers import TrainerCallback

from interp.config import DistillationConfig
from interp.models import side_by_side
from interp.models.side_by_side import add_gradients, micro_batches, twin
from interp.models.training import Document, supervise
from interp.tasks.chains import ChainTask
from tests.small import small_model

DOCUMENTS = [
    Document(p.prompt, f"1 + 1 = 2{' ; 1 + 1 = 2' * (i % 5)} #### {p.answer}")
    for i, p in enumerate(ChainTask(3).problems(24, 0, "train"))
]
RECIPE = DistillationConfig(steps=4, batch_size=8, micro_batch=2)


class Gradients(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.seen.append(torch.cat([w.grad.flatten() for w in model.parameters()]))


def trained(tokenizer, beside, **named):
    model, keep = small_model(0).requires_grad_(True), Gradients()
    log = supervise(model, tokenizer, DOCUMENTS, RECIPE, 3, beside=beside, callbacks=[keep], **named)
    return torch.cat([w.detach().flatten() for w in model.parameters()]), log.points, keep.seen


@pytest.fixture
def threads_at_work(monkeypatch):
    """Micro-batches that were differentiated at a time."""
    seen = []
    plain = side_by_side.micro_batches
    monkeypatch.setattr(side_by_side, "micro_batches", lambda *a: (seen.append(len(found := plain(*a))), found)[1])
    return seen


@pytest.mark.parametrize("muon_lr", [None, 0.02])
@pytest.mark.parametrize(("beside", "at_once"), [(2, 2), (3, 2), (4, 4), (9, 4)])
def test_the_bits_are_those_of_one_after_the_other(beside, at_once, muon_lr, tokenizer, threads_at_work):
    """Of three threads two are used, since three do not divide the four micro-batches."""
    weights, points, gradients = trained(tokenizer, beside, muon_lr=muon_lr)
    assert threads_at_work == [at_once] * (RECIPE.steps * 4 // at_once)
    alone, expected, one_by_one = trained(tokenizer, 1, muon_lr=muon_lr)
    assert len(gradients) == RECIPE.steps
    assert all(torch.equal(a, b) for a, b in zip(gradients, one_by_one, strict=True))
    assert torch.equal(weights, alone)
    assert points == [(step, pytest.approx(loss, rel=1e-5)) for step, loss in expected]
    assert len(threads_at_work) == RECIPE.steps * 4 // at_once, "one after the other without any of this"


def test_micro_batches_lose_nothing_but_padding():
    lengths = [3, 5, 2, 4, 6]
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in lengths])
    inputs = {"attention_mask": mask, "input_ids": torch.arange(35).reshape(5, 7), "labels": torch.rand(5, 7)}
    parts = micro_batches(inputs, 2)
    assert [part["input_ids"].shape for part in parts] == [(2, 5), (2, 4), (1, 6)]
    for name, value in inputs.items():
        rows = [row for part in parts for row in part[name]]
        for row, whole, n in zip(rows, value, lengths, strict=True):
            assert torch.equal(row[:n], whole[:n])
    assert int(sum(part["attention_mask"].sum() for part in parts)) == sum(lengths)


def test_a_twin_follows_the_weights_and_keeps_gradients_of_its_own():
    model = torch.nn.Linear(3, 2)
    other = twin(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    assert torch.equal(other.weight, model.weight) and other.weight is not model.weight
    x, y = torch.rand(4, 3), torch.rand(5, 3)
    (model(x).sum() + model(y).sum()).backward()
    whole = model.weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    other(y).sum().backward()
    assert not torch.equal(model.weight.grad, whole)
    add_gradients(model, other)
    torch.testing.assert_close(model.weight.grad, whole)
    assert other.weight.grad is None and other.bias.grad is None
    before = model.weight.grad.clone()
    add_gradients(model, other)
    assert torch.equal(model.weight.grad, before), "what the twin has handed over is not counted twice"
