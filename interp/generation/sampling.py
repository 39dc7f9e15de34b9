"""The sampler: batched, with a KV cache, and with common random numbers.

A choice's noise depends on the seed, the number of the problem, and the number of choices before it, never on an edit,
the batch or the device. Sampling is by the Gumbel-max rule, so two runs of the same problems differ only where an edit
changed a distribution: effects are measured on paired noise. One batch may hold several jobs: the same problems under
several edits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import InterpError
from interp.generation.cache import GrowingCache, sees_all
from interp.generation.noise import add_gumbel, gumbel
from interp.generation.part import Job, Part, ranges
from interp.traces.rollouts import Rollout
from interp.traces.tokens import decode, encode, end_id, pad_id, shared_beginning

FINISHED = 0.1
"""Share of finished rows from which the others are copied to a smaller batch: copying the cache costs about as much."""
WINDOW = (
    "an edit takes tokens back, and a layer of the model attends to a window that has become shorter than the text, or "
    "keeps a state: what is taken back would still count; lower traces.max_new_tokens, or leave out edits that rewrite"
)
SLACK = 4
"""A row makes at most this many choices for each token of its limit; edits that take tokens back need more than one."""


@dataclass(frozen=True)
class Writing:
    """How completions are written."""

    max_new_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    seed: int = 0
    ends: tuple[int, ...] = ()
    """Ids that end a completion."""
    pad: int = 0


class Decoder(Protocol):
    """A model, or several read in parallel, that takes new tokens and returns the logits of the next one."""

    device: torch.device

    def start(self) -> None:
        """Empty the cache."""
        ...

    def sees_all(self, positions: int) -> bool:
        """Whether padding within texts of this many positions does no harm (`generation.cache`)."""
        ...

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], parts: Sequence[Part]
    ) -> Float[Tensor, "batch vocab"]:
        """Logits after the last token of `ids`, which stand at the last of `mask`'s positions; the batch's rows are
        those of `parts`, one after the other."""
        ...

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Make these rows the batch, in this order; a row may be taken several times."""
        ...


def cached_inputs(ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], cache: Any) -> dict[str, Any]:
    """The arguments of a forward over new tokens, which stand at the last of `mask`'s positions."""
    return {
        "input_ids": ids,
        # Without padding no mask is needed, and attention takes its fast path.
        "attention_mask": None if bool(mask.all()) else mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
        "past_key_values": cache,
        "use_cache": True,
    }


class CachedModel:
    """One model with its KV cache."""

    def __init__(self, model: PreTrainedModel):
        self.model = model.eval()
        self.device = model.device
        self.start()

    def start(self) -> None:
        self._cache = GrowingCache(config=self.model.config)

    def sees_all(self, positions: int) -> bool:
        return sees_all(self._cache, positions)

    def inputs(self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"]) -> dict[str, Any]:
        """The arguments of a forward over new tokens."""
        return cached_inputs(ids, mask, self._cache)

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], parts: Sequence[Part]
    ) -> Float[Tensor, "batch vocab"]:
        return self.model(**self.inputs(ids, mask), logits_to_keep=1).logits[:, -1].float()

    def select(self, rows: Int[Tensor, " kept"]) -> None:
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
    on_batch: Callable[[int], None] = lambda n: None,
) -> list[Rollout]:
    """One completion of every prompt, in their order.

    Args:
        temperature: 0 is greedy.
        end_ids: ids that end a completion, beside the tokenizer's end token (`models.trio.read_end_ids`).
        on_batch: callback with the number of prompts of each finished batch.
    """
    how = writing(tokenizer, max_new_tokens, temperature, seed, end_ids)
    encoded, rollouts = [encode(tokenizer, prompt) for prompt in prompts], []
    for start in range(0, len(prompts), batch_size):
        job = Job(encoded[start : start + batch_size], range(start, min(start + batch_size, len(prompts))))
        rollouts += write(decoder, tokenizer, [job], how)[0]
        on_batch(len(job.prompts))
    return rollouts


def writing(
    tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, temperature: float, seed: int, end_ids: Sequence[int]
) -> Writing:
    """The settings of a run, with the tokenizer's own end token among the ends."""
    ends = tuple(sorted({end_id(tokenizer), *end_ids}))
    return Writing(max_new_tokens, temperature, seed, ends, pad_id(tokenizer))


@torch.inference_mode()
def write(
    decoder: Decoder, tokenizer: PreTrainedTokenizerBase, jobs: Sequence[Job], how: Writing
) -> list[list[Rollout]]:
    """Completions [job][prompt] of one batch."""
    batch = _Batch(decoder, jobs, how)
    batch.read_prompts()
    while batch.active:
        batch.advance()
    return [
        [
            Rollout(prompt, written, decode(tokenizer, written), finished)
            for prompt, written, finished in zip(job.prompts, batch.written[i], batch.finished[i], strict=True)
        ]
        for i, job in enumerate(jobs)
    ]


class _Batch:
    """The state of one batch. Rows that end leave it; those of one job stay next to each other."""

    def __init__(self, decoder: Decoder, jobs: Sequence[Job], how: Writing):
        self._decoder, self._jobs, self._how = decoder, jobs, how
        self.written: list[list[list[int]]] = [[[] for _ in job.prompts] for job in jobs]
        self.finished = [[False] * len(job.prompts) for job in jobs]
        self.active = [(i, row) for i, job in enumerate(jobs) for row in range(len(job.prompts))]
        self._forced: list[deque[int]] = [deque() for _ in self.active]
        self._done = [False] * len(self.active)
        self._hidden = False
        """Whether a row has hidden positions between those that it shows."""
        self._step = 0

    def read_prompts(self) -> None:
        """Read the prompts, but for their last logits: what all share once for each job, the rest row by row."""
        prompts = [self._jobs[i].prompts[row] for i, row in self.active]
        if not prompts:
            return
        self._decoder.start()
        by_row = any(job.edits is not None and job.edits.by_row for job in self._jobs)
        # What is padded behind a shared beginning stands between it and the rest.
        longest = max(map(len, prompts)) + SLACK * self._how.max_new_tokens
        shared = 0 if by_row or not self._decoder.sees_all(longest) else shared_beginning(prompts)
        if shared:
            present = sorted({i for i, _ in self.active})
            head = torch.tensor([prompts[0][:shared]] * len(present), device=self._decoder.device)
            parts = [self._part([(i, 0)], torch.ones_like(head[:1]), is_beginning=True) for i in present]
            self._decoder.step(head, torch.ones_like(head), parts)
            place = {i: at for at, i in enumerate(present)}
            self._decoder.select(torch.tensor([place[i] for i, _ in self.active], device=self._decoder.device))
        self._new, mask = left_padded([p[shared:] for p in prompts], self._how.pad, self._decoder.device)
        self._mask = torch.cat([mask.new_ones(len(mask), shared), mask], dim=1)

    def advance(self) -> None:
        """Read the new tokens and choose the next ones."""
        parts = self._parts()
        logits = self._decoder.step(self._new, self._mask, parts)
        is_edited = any(self._jobs[part.job].edits is not None for part in parts)
        noise = self._noise(logits.shape[1]) if is_edited else None
        chosen = torch.empty(len(self.active), dtype=torch.long, device=logits.device)
        for part, here in zip(parts, ranges([len(part.rows) for part in parts]), strict=True):
            part.logits, part.chosen = logits[here], chosen[here]
            part.noise = None if noise is None else noise[here]
            if (edits := self._jobs[part.job].edits) is not None:
                edits.before(part)
        chosen.copy_(pick(logits, self._how.temperature, noise) if is_edited else self._sampled(logits))
        for row, tokens in enumerate(self._forced):
            if tokens:
                chosen[row] = tokens.popleft()
        for part in parts:
            if (edits := self._jobs[part.job].edits) is not None:
                edits.after(part)
        self._hidden |= any(part.hides for part in parts)
        if self._hidden and not self._decoder.sees_all(self._mask.shape[1] + 1):
            raise InterpError(WINDOW)
        self._step += 1
        self._append(parts, chosen)

    def _parts(self) -> list[Part]:
        here = ranges([*Counter(i for i, _ in self.active).values()])  # jobs in the order of their rows
        return [self._part(self.active[h], self._mask[h], self._forced[h], self._done[h]) for h in here]

    def _part(
        self,
        active: Sequence[tuple[int, int]],
        mask: Int[Tensor, "rows time"],
        forced: Sequence[deque[int]] = (),
        done: Sequence[bool] = (),
        *,
        is_beginning: bool = False,
    ) -> Part:
        number, rows = active[0][0], [row for _, row in active]
        job, limit = self._jobs[number], self._how.max_new_tokens
        written = [self.written[number][row] for row in rows]
        out_of_choices = self._step + 1 >= SLACK * limit
        return Part(
            job=number,
            rows=rows,
            numbers=torch.tensor([job.numbers[row] for row in rows], device=mask.device),
            step=self._step,
            prompts=[job.prompts[row] for row in rows],
            written=written,
            forced=forced,
            done=done,
            mask=mask,
            is_beginning=is_beginning,
            left=[1 if out_of_choices else limit - len(tokens) for tokens in written],
        )

    def _numbers(self) -> Int[Tensor, " batch"]:
        """Number of each row's problem."""
        return torch.tensor([self._jobs[i].numbers[row] for i, row in self.active], device=self._decoder.device)

    def _noise(self, vocab: int) -> Float[Tensor, "batch vocab"] | None:
        """Made once for each problem; the jobs share it."""
        if not self._how.temperature:
            return None
        numbers = self._numbers()
        unique, place = numbers.unique(return_inverse=True)
        noise = gumbel(self._how.seed, unique, self._step, vocab)
        return noise if len(unique) == len(numbers) and torch.equal(unique, numbers) else noise[place]

    def _sampled(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        """The same choice as `pick`'s, without keeping the noise, which no edit asks for."""
        if not self._how.temperature:
            return logits.argmax(1)
        scores = logits / self._how.temperature
        add_gumbel(scores, self._how.seed, self._numbers(), self._step)
        return scores.argmax(1)

    def _append(self, parts: Sequence[Part], chosen: Int[Tensor, " batch"]) -> None:
        """Write the chosen tokens, mark the rows that have ended, and drop them once they are many."""
        tokens, at = chosen.tolist(), 0
        too_long = self._step >= SLACK * self._how.max_new_tokens
        for part in parts:
            for i, row in enumerate(part.rows):
                if self._done[at]:
                    pass
                elif i in part.again:
                    tokens[at] = part.last(i)
                elif tokens[at] in self._how.ends:
                    self.finished[part.job][row] = self._done[at] = True
                else:
                    part.written[i].append(tokens[at])
                    self._done[at] = len(part.written[i]) >= self._how.max_new_tokens
                self._done[at] = self._done[at] or too_long
                at += 1
        kept = [at for at, done in enumerate(self._done) if not done]
        if len(tokens) - len(kept) >= FINISHED * len(tokens):
            self._keep(kept)
            tokens = [tokens[at] for at in kept]
        if tokens:
            self._new = torch.tensor(tokens, device=self._mask.device)[:, None]
            self._mask = torch.cat([self._mask, torch.ones_like(self._new)], dim=1)

    def _keep(self, kept: list[int]) -> None:
        self.active = [self.active[at] for at in kept]
        self._forced = [self._forced[at] for at in kept]
        self._done = [self._done[at] for at in kept]
        if kept:
            rows = torch.tensor(kept, device=self._mask.device)
            self._decoder.select(rows)
            self._mask = self._mask[rows]


def pick(
    logits: Float[Tensor, "batch vocab"], temperature: float, noise: Float[Tensor, "batch vocab"] | None
) -> Int[Tensor, " batch"]:
    """The next tokens: the argmax where `noise` is None, else a sample of softmax(logits / temperature)."""
    if noise is None:
        return logits.argmax(1)
    return (logits / temperature + noise).argmax(1)


def left_padded(
    rows: Sequence[list[int]], fill: int, device: torch.device
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Token ids and attention mask, padded on the left with `fill`."""
    width = max(map(len, rows))
    ids = torch.tensor([[fill] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
