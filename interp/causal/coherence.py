"""How probable a model finds texts, its own or edited ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from interp.generation.budget import batches_by_tokens, free_budget, rows_that_fit

ROWS = 256
"""Most texts that are read together."""


@torch.inference_mode()
def perplexity(model: PreTrainedModel, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> float:
    """Perplexity of completions after their prompts (token ids): exp of the mean negative log-probability (nats) per
    completion token; +inf where all completions are empty."""
    rows = [(list(p), list(c)) for p, c in zip(prompts, completions, strict=True) if c]
    lengths = [len(p) + len(c) for p, c in rows]
    total, count = 0.0, 0
    for batch in batches_by_tokens(lengths, *_bounds(model, max(lengths, default=1))):
        part = [rows[i] for i in batch]
        width = max(len(p) + len(c) for p, c in part)
        whole = [p + c for p, c in part]
        ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in whole], device=model.device)
        logp = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
        at = torch.arange(1, width, device=model.device)[None]
        first = torch.tensor([len(p) for p, _ in part], device=model.device)[:, None]
        last = torch.tensor([len(row) for row in whole], device=model.device)[:, None]
        counted = (at >= first) & (at < last)
        total += float(logp[counted].double().sum())
        count += int(counted.sum())
    return float(torch.tensor(-total / count, dtype=torch.float64).exp()) if count else float("inf")


def _bounds(model: PreTrainedModel, longest: int) -> tuple[int, int]:
    """(rows, tokens) of a batch whose logits and residuals fit into the free memory."""
    fit = rows_that_fit(
        model.config, longest, free_budget(model.device), model.dtype, logits_positions=longest, cached=False
    )
    rows = min(ROWS, fit)
    return rows, max(1, fit * longest)
