"""How many rows of a batch fit into memory: bytes of a model's activations, from its config alone.

Counted are the KV cache, the logits and the residual stream. Not counted are the weights, which are there before a
batch is made, and what attention and the kernels take for a moment: hence only a share of the free memory is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interp.errors import InterpError
from interp.memory import free_bytes

SHARE = 0.6
"""Part of the free memory that a batch may take."""
_FLOAT = 4


@dataclass(frozen=True)
class Sizes:
    """Bytes that one model takes for a batch."""

    kv_per_token: int
    """Keys and values of one position of one row, over all layers."""
    residual_per_token: int
    """The residual stream at one position, and the widest hidden layer of the MLP beside it."""
    logits_per_position: int
    """Logits of one position in the model's dtype, and a copy in fp32 where that is another."""

    def row(self, tokens: int, logits_positions: int = 1, *, cached: bool = True, new_tokens: int | None = None) -> int:
        """Bytes of a row of `tokens` positions.

        Args:
            logits_positions: positions whose logits exist at once: all in teacher-forced reading that keeps them; in
                sampling 3, since the noise and its sum with the logits are as large.
            cached: False where a row is read without a KV cache; then one layer's keys and values exist at once, which
                the share that is left covers.
            new_tokens: positions that one forward reads; by default all of them, as the first forward does.
        """
        read = tokens if new_tokens is None else new_tokens
        cache = tokens * self.kv_per_token if cached else 0
        return cache + read * self.residual_per_token + logits_positions * self.logits_per_position


def sizes(config: Any, dtype: torch.dtype) -> Sizes:
    """A model's bytes per token and position, from a transformers config (of text, or one that holds one).

    Every layer is counted as full attention, so that models with sliding windows or linear layers take less.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size
    return Sizes(
        kv_per_token=2 * text.num_hidden_layers * heads * width * dtype.itemsize,
        # The stream and its normalised copy, and the MLP's gate and up projections.
        residual_per_token=(2 * text.hidden_size + 2 * inner) * dtype.itemsize,
        logits_per_position=text.vocab_size * (dtype.itemsize + (_FLOAT if dtype.itemsize != _FLOAT else 0)),
    )


def rows_that_fit(
    config: Any,
    tokens_per_row: int,
    budget_bytes: int,
    dtype: torch.dtype,
    models: int = 1,
    logits_positions: int = 1,
    *,
    cached: bool = True,
) -> int:
    """Most rows of `tokens_per_row` positions that `models` models of this config can hold at once in a budget.

    Raises:
        InterpError: not even one row fits; names what to lower.
    """
    row = models * sizes(config, dtype).row(tokens_per_row, logits_positions, cached=cached)
    if row > budget_bytes:
        raise InterpError(
            f"a row of {tokens_per_row} tokens in {models} model(s) takes {row / 1e9:.2f} GB, and "
            f"{budget_bytes / 1e9:.2f} GB may be used; lower the number of tokens or of models read together"
        )
    return budget_bytes // row


def shared_out(budget_bytes: int, wanted: int, copy_bytes: int) -> tuple[int, int]:
    """How many processes run side by side, and the bytes that a batch of each may take.

    They are at most `wanted`, and as many as have copies of the models in half of the budget. A single one is this
    process, whose models are there already.
    """
    workers = max(1, min(wanted, budget_bytes // (2 * copy_bytes)))
    return workers, budget_bytes // workers - (copy_bytes if workers > 1 else 0)


def free_budget(device: torch.device, share: float = SHARE) -> int:
    """Bytes of a device that a batch may take: a share of what is free, on a GPU with what torch holds and does not
    use."""
    return int(share * free_bytes(device))


def batches_by_tokens(lengths: Sequence[int], rows: int, tokens: int) -> list[list[int]]:
    """Items grouped into batches of at most `rows` rows and `tokens` positions, padding included; longest first.

    Items of like length come together, so that little is padded, and a batch that does not fit is met at once. Items of
    one length stay in their order. Every item is in one batch; one that is longer than `tokens` has a batch of its own.
    """
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batches[-1][0]] if batches else 0
        if not batches or len(batches[-1]) >= rows or (len(batches[-1]) + 1) * longest > tokens:
            batches.append([])
        batches[-1].append(item)
    return batches
