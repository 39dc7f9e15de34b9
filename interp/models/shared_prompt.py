"""Supervised training on documents whose prompts begin alike: the beginning is computed once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from trl.trainer.sft_trainer import SFTTrainer


def trainer_with(shared: int) -> type[SFTTrainer]:
    """TRL's trainer where `shared` is 0; else one that computes the first `shared` tokens, equal in all documents,
    once a micro-batch. Loss and gradient are the same up to rounding; TRL's own metrics are not logged."""
    from trl.trainer.sft_trainer import SFTTrainer

    class SharedPrompt(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            return completion_loss(model, inputs, shared) / num_items_in_batch

    return SharedPrompt if shared else SFTTrainer


def completion_loss(model: Any, inputs: dict[str, torch.Tensor], shared: int) -> torch.Tensor:
    """Sum of -log p over the labelled tokens of documents that share their first `shared` tokens, none of them
    labelled, nor the next. The gradient passes through the keys and values of those tokens."""
    from torch.nn.functional import cross_entropy
    from transformers import DynamicCache

    ids, labels = inputs["input_ids"], inputs["labels"]
    past = DynamicCache()
    model(input_ids=ids[:1, :shared], past_key_values=past, use_cache=True, logits_to_keep=1)
    past.batch_repeat_interleave(len(ids))
    first = int((labels != -100).any(0).nonzero()[0])
    done = model(
        input_ids=ids[:, shared:],
        attention_mask=inputs["attention_mask"],
        past_key_values=past,
        use_cache=True,
        logits_to_keep=ids.shape[1] - first + 1,
    )
    logits = done.logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), labels[:, first:].flatten(), ignore_index=-100, reduction="sum")
