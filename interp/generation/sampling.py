"""The sampler: batched, with a KV cache, and with common random numbers.

A prompt's noise depends on the seed and on the prompt's place in the list alone, never on an edit nor on the batch.
Sampling is by the Gumbel-max rule, so two arms over the same problems differ only where an edit changed a
distribution: effects are measured on paired noise. `copies` runs several arms over the same prompts in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from interp.traces.rollouts import Rollout
from interp.traces.tokens import decode, encode, end_id, pad_id, shared_beginning

LogitEdit = Callable[[Int[Tensor, "batch time"], Float[Tensor, "batch vocab"], Int[Tensor, " batch"]], None]
"""Callback (tokens, logits, copy) that changes logits in place: the rows' tokens so far (prompt included), their
next-token logits, and the number of the copy that each row belongs to."""
NOISE_BLOCK = 64
"""Prompts that share one noise generator; batches are made of whole blocks."""


class Decoder(Protocol):
    """A model, or several read in parallel, that takes new tokens and returns the logits of the next one."""

    device: torch.device

    def start(self) -> None:
        """Empty the cache."""
        ...

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], copy: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocab"]:
        """Logits after the last token of `ids`, which stand at the last of `mask`'s positions; `copy` is the number of
        each row's copy."""
        ...

    def spread(self, times: int) -> None:
        """Repeat every row of the batch `times` times, the repeats of a row next to each other."""
        ...

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep only these rows of the batch."""
        ...


class CachedModel:
    """One model with its KV cache."""

    def __init__(self, model: PreTrainedModel):
        self.model = model.eval()
        self.device = model.device
        self.start()

    def start(self) -> None:
        self._cache = DynamicCache(config=self.model.config)

    def inputs(self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"]) -> dict[str, Any]:
        """The arguments of a forward over new tokens."""
        return {
            "input_ids": ids,
            # Without padding no mask is needed, and attention takes its fast path.
            "attention_mask": None if bool(mask.all()) else mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
            "past_key_values": self._cache,
            "use_cache": True,
        }

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], copy: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocab"]:
        return self.model(**self.inputs(ids, mask), logits_to_keep=1).logits[:, -1].float()

    def spread(self, times: int) -> None:
        self._cache.batch_repeat_interleave(times)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        self._cache.batch_select_indices(rows)


def generate(
    decoder: Decoder,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
    end_ids: Sequence[int] = (),
    edits: Sequence[LogitEdit] = (),
    on_batch: Callable[[int], None] = lambda n: None,
) -> list[Rollout]:
    """One completion of every prompt, in their order.

    Args:
        temperature: 0 is greedy.
        end_ids: ids that end a completion, beside the tokenizer's end token (`models.trio.read_end_ids`).
        on_batch: callback with the number of prompts of each finished batch.
    """
    return generate_copies(
        decoder,
        tokenizer,
        prompts,
        1,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        end_ids=end_ids,
        edits=edits,
        on_batch=on_batch,
    )[0]


def generate_copies(
    decoder: Decoder,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    copies: int,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
    end_ids: Sequence[int] = (),
    edits: Sequence[LogitEdit] = (),
    on_batch: Callable[[int], None] = lambda n: None,
) -> list[list[Rollout]]:
    """Completions [copy][prompt], all copies of a prompt with the same noise; edits are given the copy's number.

    `batch_size` is the largest number of rows of a batch, but never below one block of noise. See `generate`.
    """
    ends = sorted({end_id(tokenizer), *end_ids})
    rollouts: list[list[Rollout]] = [[] for _ in range(copies)]
    together = max(1, min(copies, batch_size // min(NOISE_BLOCK, len(prompts) or 1)))
    width = max(1, batch_size // together // NOISE_BLOCK) * NOISE_BLOCK
    for start in range(0, len(prompts), width):
        batch = list(prompts[start : start + width])
        for first in range(0, copies, together):
            some = range(first, min(first + together, copies))
            blocks = noise_blocks(seed, start, len(batch))
            done = _generate_batch(decoder, tokenizer, batch, some, blocks, max_new_tokens, temperature, ends, edits)
            for i, copy in enumerate(some):
                rollouts[copy] += done[i * len(batch) : (i + 1) * len(batch)]
        on_batch(len(batch))
    return rollouts


@torch.inference_mode()
def _generate_batch(
    decoder: Decoder,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    copies: range,
    blocks: list[torch.Generator],
    max_new_tokens: int,
    temperature: float,
    ends: list[int],
    edits: Sequence[LogitEdit],
) -> list[Rollout]:
    encoded = [encode(tokenizer, prompt) for prompt in prompts]
    ids = left_padded(encoded, pad_id(tokenizer), decoder.device)[0].repeat(len(copies), 1)
    prompt_length, ending = ids.shape[1], torch.tensor(ends, device=decoder.device)
    out = torch.full((len(ids), prompt_length + max_new_tokens), ends[0], dtype=torch.long, device=decoder.device)
    out[:, :prompt_length] = ids
    active = torch.arange(len(ids), device=decoder.device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=decoder.device)
    decoder.start()
    shared = _read_shared(decoder, encoded, copies)
    new, mask = (
        part.repeat(len(copies), 1)
        for part in left_padded([prompt[shared:] for prompt in encoded], pad_id(tokenizer), decoder.device)
    )
    mask = torch.cat([mask.new_ones(len(mask), shared), mask], dim=1)
    for t in range(prompt_length, prompt_length + max_new_tokens):
        copy = copies.start + active // len(prompts)
        logits = decoder.step(new, mask, copy)
        for edit in edits:
            edit(out[active, :t], logits, copy)
        noise = gumbel_noise(len(prompts), logits.shape[1], blocks).to(logits.device) if temperature else None
        token = pick(logits, temperature, None if noise is None else noise[active % len(prompts)])
        out[active, t] = token
        done |= torch.isin(token, ending)
        if bool(done.all()):
            break
        if int(done.sum()) >= 0.1 * len(active):  # copying the cache costs about what a tenth of the rows does
            kept = (~done).nonzero().squeeze(1)
            decoder.keep(kept)
            active, token, mask, done = active[kept], token[kept], mask[kept], done[kept]
        new = token[:, None]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
    tails = out[:, prompt_length:].tolist()
    return [_rollout(tokenizer, prompt, tail, ends) for prompt, tail in zip(encoded * len(copies), tails, strict=True)]


def _read_shared(decoder: Decoder, prompts: Sequence[list[int]], copies: range) -> int:
    """Read the beginning that all prompts share once per copy; returns its number of tokens, 0 where it is short."""
    shared = shared_beginning(prompts)
    if shared:
        head = torch.tensor([prompts[0][:shared]] * len(copies), device=decoder.device)
        decoder.step(head, torch.ones_like(head), torch.tensor(copies, device=decoder.device))
        decoder.spread(len(prompts))
    return shared


def _rollout(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], tail: list[int], ends: Collection[int]
) -> Rollout:
    """The completion up to the first end token, which is left out."""
    length = next((i for i, token in enumerate(tail) if token in ends), len(tail))
    completion = tail[:length]
    return Rollout(prompt_ids, completion, decode(tokenizer, completion), finished=length < len(tail))


def noise_blocks(seed: int, start: int, n: int) -> list[torch.Generator]:
    """The noise of prompts number `start` to `start + n - 1`: one generator per block of NOISE_BLOCK prompts.

    Different seeds and blocks never share a generator while a run has fewer than 1,000,003 prompts and the product
    with the seed stays below 2^32, the period of torch's seeds.
    """
    return [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(0, n, NOISE_BLOCK)]


def gumbel_noise(rows: int, vocab: int, blocks: Sequence[torch.Generator]) -> Float[Tensor, "rows vocab"]:
    """Standard Gumbel noise, made on the CPU so that every device draws the same; for all rows, also finished ones, so
    that no row's noise depends on another's length."""
    exponential = [torch.empty(NOISE_BLOCK, vocab).exponential_(generator=block) for block in blocks]
    return -torch.cat(exponential)[:rows].clamp_(min=1e-30).log()


def pick(
    logits: Float[Tensor, "batch vocab"], temperature: float, gumbel: Float[Tensor, "batch vocab"] | None
) -> Int[Tensor, " batch"]:
    """The next tokens: the argmax where `gumbel` is None, else a sample of softmax(logits / temperature)."""
    if gumbel is None:
        return logits.argmax(1)
    return (logits / temperature + gumbel).argmax(1)


def left_padded(
    rows: Sequence[list[int]], fill: int, device: torch.device
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Token ids and attention mask, padded on the left with `fill`."""
    width = max(map(len, rows))
    ids = torch.tensor([[fill] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
