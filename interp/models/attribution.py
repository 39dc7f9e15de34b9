"""Attribution scores of the words of a rationale: by gradient of the answer, or by surprisal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.traces.tokens import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rationale:
    """A prompt, the words after it, and the answer after these, including its separator (` #### 9`)."""

    prompt: str
    words: tuple[str, ...]
    answer: str


def by_gradient(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rationales: Sequence[Rationale], batch_size: int = 64
) -> list[list[float]]:
    """|<embedding, d log p(answer) / d embedding>| summed over a word's tokens, [rationale][word], in nats, at least 0:
    to first order, the change of the answer's log-probability if the word's embeddings were set to zero."""
    return _scored(model, tokenizer, rationales, batch_size, _answer_gradient)


def by_surprise(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rationales: Sequence[Rationale], batch_size: int = 64
) -> list[list[float]]:
    """-log p given all text before, summed over a word's tokens, [rationale][word], in nats: high for unexpected
    words."""
    return _scored(model, tokenizer, rationales, batch_size, _surprise)


@dataclass(frozen=True)
class _Batch:
    ids: Tensor
    """Padded on the right, [batch, time]."""
    mask: Tensor
    word: Tensor
    """Index of the word each token belongs to, -1 outside the rationale."""
    is_answer: Tensor


def _scored(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rationales: Sequence[Rationale],
    batch_size: int,
    token_scores,
) -> list[list[float]]:
    scores: list[list[float]] = []
    for start in range(0, len(rationales), batch_size):
        some = rationales[start : start + batch_size]
        batch = _batch(tokenizer, some, model.device)
        per_token = token_scores(model, batch).double().cpu()
        for row, rationale in enumerate(some):
            inside = batch.word[row].cpu() >= 0
            sums = torch.zeros(len(rationale.words), dtype=torch.double)
            sums.index_add_(0, batch.word[row].cpu()[inside], per_token[row][inside])
            scores.append(sums.tolist())
    return scores


def _batch(tokenizer: PreTrainedTokenizerBase, rationales: Sequence[Rationale], device: torch.device) -> _Batch:
    rows = [_tokens(tokenizer, rationale) for rationale in rationales]
    width = max(len(ids) for ids, _, _ in rows)

    def padded(i: int, fill: int) -> Tensor:
        return torch.tensor([[*row[i], *[fill] * (width - len(row[i]))] for row in rows], device=device)

    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _ in rows], device=device)
    return _Batch(padded(0, 0), mask, padded(1, -1), padded(2, 0).bool())


def _tokens(tokenizer: PreTrainedTokenizerBase, rationale: Rationale) -> tuple[list[int], list[int], list[int]]:
    """(token ids, index of each token's word, 1 for the answer's tokens); words are encoded one by one, so that no
    token spans two."""
    ids = encode(tokenizer, rationale.prompt)
    word, answer = [-1] * len(ids), [0] * len(ids)
    for i, text in enumerate(rationale.words):
        new = encode(tokenizer, f" {text}")
        ids, word, answer = ids + new, word + [i] * len(new), answer + [0] * len(new)
    new = encode(tokenizer, rationale.answer)
    return ids + new, word + [-1] * len(new), answer + [1] * len(new)


def _answer_gradient(model: PreTrainedModel, batch: _Batch) -> Float[Tensor, "batch time"]:
    embedded = model.get_input_embeddings()(batch.ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, attention_mask=batch.mask).logits
    (gradient,) = torch.autograd.grad(-_losses(logits, batch.ids)[batch.is_answer].sum(), embedded)
    return (gradient * embedded).sum(-1).abs().detach()


@torch.no_grad()
def _surprise(model: PreTrainedModel, batch: _Batch) -> Float[Tensor, "batch time"]:
    return _losses(model(input_ids=batch.ids, attention_mask=batch.mask).logits, batch.ids)


def _losses(logits: Tensor, ids: Tensor) -> Float[Tensor, "batch time"]:
    """-log p of every token given those before it, in nats; 0 for the first."""
    log_p = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return torch.cat([torch.zeros_like(log_p[:, :1]), -log_p], dim=1)
