"""The edited model with its problems and settings, and how it is run under edits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.causal.decoding import EditedDecoder
from interp.causal.edits import ResidualEdit
from interp.generation.sampling import CachedModel, Decoder, LogitEdit, generate_copies
from interp.statistics import Bootstrap
from interp.tasks.base import Problem, Task
from interp.traces.lexicon import Lexicon
from interp.traces.measure import Outcomes, measure
from interp.traces.rollouts import Rollout


@dataclass(frozen=True)
class Subject:
    """The edited model, and everything that a run of it needs."""

    name: str
    models: Mapping[str, PreTrainedModel]
    """The crosscoder's models, in its order."""
    tokenizer: PreTrainedTokenizerBase
    task: Task
    lexicon: Lexicon
    problems: Sequence[Problem]
    prompts: Sequence[str]
    resamples: int
    layer: int
    skip_first: int
    max_new_tokens: int
    temperature: float
    batch_size: int
    seed: int
    on_copies: Callable[[int], None]
    """Callback with the number of completions that each batch finished."""
    end_ids: Sequence[int] = ()
    """Ids that end a completion, beside the tokenizer's end token."""

    @property
    def model(self) -> PreTrainedModel:
        return self.models[self.name]

    def run(
        self,
        n: int,
        copies: int,
        *,
        edits: Sequence[LogitEdit] = (),
        edit: ResidualEdit | None = None,
        read_along: bool = True,
    ) -> list[list[Rollout]]:
        """Completions [copy][problem] of the first `n` problems under edits of the logits and of the residual."""
        decoder: Decoder = CachedModel(self.model)
        if edit is not None:
            decoder = EditedDecoder(
                self.models, self.name, self.layer, edit, read_along=read_along, skip_first=self.skip_first
            )
        return generate_copies(
            decoder,
            self.tokenizer,
            self.prompts[:n],
            copies,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
            batch_size=self.batch_size,
            end_ids=self.end_ids,
            edits=edits,
            on_batch=lambda done: self.on_copies(done * copies),
        )

    def bootstrap(self, n: int) -> Bootstrap:
        """Resamples of the first `n` problems, the same ones every time."""
        return _bootstrap(n, self.resamples, self.seed)

    def outcomes(self, rollouts: Sequence[Rollout]) -> Outcomes:
        """Outcomes of completions of the first problems."""
        return measure(self.task, self.lexicon, self.problems[: len(rollouts)], rollouts)


@lru_cache(maxsize=4)
def _bootstrap(n: int, resamples: int, seed: int) -> Bootstrap:
    return Bootstrap(n, resamples, seed)


@torch.inference_mode()
def perplexity(model: PreTrainedModel, rollouts: Sequence[Rollout], batch_size: int = 256) -> float:
    """Perplexity of completions under a model: exp of the mean negative log-probability (nats) per completion token;
    +inf where all completions are empty."""
    total, count = 0.0, 0
    for start in range(0, len(rollouts), batch_size):
        batch = [r for r in rollouts[start : start + batch_size] if r.completion_ids]
        if not batch:
            continue
        rows = [r.prompt_ids + r.completion_ids for r in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows], device=model.device)
        logp = model(input_ids=ids).logits.float().log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
        at = torch.arange(1, width, device=model.device)[None]
        first = torch.tensor([len(r.prompt_ids) for r in batch], device=model.device)[:, None]
        last = torch.tensor([len(row) for row in rows], device=model.device)[:, None]
        counted = (at >= first) & (at < last)
        total += float(logp[counted].sum())
        count += int(counted.sum())
    return float(torch.tensor(-total / count).exp()) if count else float("inf")
