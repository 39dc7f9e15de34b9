"""Muon for the hidden matrices and AdamW for all other weights, as one optimizer.

The organisms' base, which must learn to look its operands up, needs about half the updates that AdamW alone needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from interp.models.sites import decoder_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on the blocks' matrices; AdamW on embeddings, unembedding, norms and biases."""

    def __init__(self, model: PreTrainedModel, muon_lr: float, adam_lr: float):
        inside = {id(p) for block in decoder_blocks(model) for p in block.parameters() if p.ndim == 2}
        matrices = [p for p in model.parameters() if id(p) in inside]
        others = [p for p in model.parameters() if id(p) not in inside]
        self._parts = (
            torch.optim.Muon(matrices, lr=muon_lr, momentum=0.95, weight_decay=0.0),
            torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        groups = [{"params": group["params"], "lr": group["lr"]} for part in self._parts for group in part.param_groups]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update by both, at the learning rates that a scheduler has set on this optimizer's groups."""
        inner = [group for part in self._parts for group in part.param_groups]
        for ours, theirs in zip(self.param_groups, inner, strict=True):
            theirs["lr"] = ours["lr"]
        for part in self._parts:
            part.step()
