"""Supervised training that differentiates several micro-batches side by side, one on each CPU thread.

A small model's operations are too short to be shared among threads: a second one makes a step hardly faster. Whole
micro-batches are not, and their gradients, added up in the same order, are those of one after the other to the bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from trl.trainer.sft_trainer import SFTTrainer


def side_by_side(trainer: type[SFTTrainer], micro_batch: int) -> type[SFTTrainer]:
    """A trainer whose batches are of several micro-batches of this size, padded on the right, which it differentiates
    at the same time. Operations themselves must run on one thread (`torch.set_num_threads`)."""

    class SideBySide(trainer):
        _team: tuple[ThreadPoolExecutor, list[Any]] | None = None

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
            parts = micro_batches(inputs, micro_batch)
            if self._team is None:
                self._team = ThreadPoolExecutor(len(parts)), [model, *(twin(model) for _ in parts[1:])]
            threads, models = self._team
            step = super().training_step
            running = [
                threads.submit(step, one, part, num_items_in_batch) for one, part in zip(models, parts, strict=False)
            ]
            losses = [future.result() for future in running]
            for other in models[1:]:
                add_gradients(model, other)
            return sum(losses[1:], losses[0])

    return SideBySide


def micro_batches(inputs: dict[str, Tensor], rows: int) -> list[dict[str, Tensor]]:
    """The batch in parts of `rows` rows, each without the columns at its right that are padding in all of its rows."""
    mask = inputs["attention_mask"]
    found = []
    for start in range(0, len(mask), rows):
        here = slice(start, start + rows)
        width = int(mask[here].sum(1).max())
        found.append({name: value[here, :width] for name, value in inputs.items()})
    return found


def twin(model: Any) -> Any:
    """A copy that shares the model's weights, so that it follows every update, and has gradients of its own."""
    import torch

    other = deepcopy(model)
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            its.grad, its.data = None, mine.data
    return other


def add_gradients(model: torch.nn.Module, other: torch.nn.Module) -> None:
    """Add the twin's gradients to the model's, and take them from the twin."""
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        if its.grad is None:
            continue
        mine.grad = its.grad if mine.grad is None else mine.grad.add_(its.grad)
        its.grad = None
