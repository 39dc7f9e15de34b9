"""Generation under edits: the edited model, and the models that read the same tokens where an edit needs theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.causal.companions import Companion
from interp.causal.edits.base import Edit, Running, RunningResidual, Scene, started
from interp.causal.places import Reading
from interp.generation.part import Job, Part, ranges
from interp.generation.sampling import CachedModel, write, writing
from interp.generation.vocabulary import Vocabulary, read_vocabulary, vocabulary_size
from interp.models.hooks import Site, changing
from interp.traces.rollouts import Rollout
from interp.traces.tokens import encode


def generate_edited(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    edit: Edit,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
    end_ids: Sequence[int] = (),
) -> list[Rollout]:
    """One completion of every prompt under an edit that needs no other model; see `generation.sampling.generate`."""
    vocabulary = read_vocabulary(tokenizer, vocabulary_size(model))
    how = writing(tokenizer, max_new_tokens, temperature, seed, end_ids)
    encoded, rollouts = [encode(tokenizer, prompt) for prompt in prompts], []
    for start in range(0, len(prompts), batch_size):
        numbers = range(start, min(start + batch_size, len(prompts)))
        running = edit.start(Scene(vocabulary, len(numbers), seed, temperature))
        decoder = EditedDecoder({"edited": model}, "edited", [running], vocabulary)
        rollouts += write(decoder, tokenizer, [Job([encoded[i] for i in numbers], numbers, running)], how)[0]
    return rollouts


class EditedDecoder:
    """The model `edited`, with each job's residual edits at work in its rows. Every model reads the same
    tokens with a cache of its own; the companions stop after the last site."""

    def __init__(
        self,
        models: Mapping[str, PreTrainedModel],
        edited: str,
        jobs: Sequence[Running],
        vocabulary: Vocabulary,
        prompts: Mapping[str, Sequence[Sequence[list[int]]]] | None = None,
    ):
        own = prompts or {}
        self._edited, self._vocabulary = edited, vocabulary
        self._residual = [[r for r in started(job) if isinstance(r, RunningResidual)] for job in jobs]
        self._silent = frozenset(own)
        edits = [one.edit for job in self._residual for one in job]
        self._sites = tuple(sorted({edit.site for edit in edits}))
        needs = {name: tuple(sorted({e.site for e in edits if name in e.needs})) for name in models if name != edited}
        self._main = CachedModel(models[edited])
        self._companions = {
            name: Companion(models[name], sites, own.get(name)) for name, sites in needs.items() if sites
        }
        self.device = self._main.device

    def start(self) -> None:
        for part in (self._main, *self._companions.values()):
            part.start()

    def sees_all(self, positions: int) -> bool:
        return all(part.sees_all(positions) for part in (self._main, *self._companions.values()))

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        for part in (self._main, *self._companions.values()):
            part.select(rows)

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], parts: Sequence[Part]
    ) -> Float[Tensor, "batch vocab"]:
        if not self._sites:
            return self._main.step(ids, mask, parts)
        others = {name: one.read(ids, mask, parts) for name, one in self._companions.items()}
        slices = ranges([len(part.rows) for part in parts])
        readings = [self._reading(part, ids[here], mask[here]) for part, here in zip(parts, slices, strict=True)]

        def change_at(site: Site, h: Tensor) -> Tensor:
            pieces = []
            for part, here, reading in zip(parts, slices, readings, strict=True):
                own = h[here]
                for one in self._residual[part.job]:
                    if one.edit.site == site:
                        seen = {name: x[site][here] for name, x in others.items() if site in x}
                        own = one.apply(own, seen | {self._edited: own}, part, self._heard(one, reading))
                pieces.append(own)
            if all(own.data_ptr() == h[here].data_ptr() for own, here in zip(pieces, slices, strict=True)):
                return h
            return torch.cat(pieces)

        changes = {site: (lambda h, site=site: change_at(site, h)) for site in self._sites}
        with changing(self._main.model, changes):
            return self._main.step(ids, mask, parts)

    def _heard(self, one: RunningResidual, reading: Reading) -> Reading:
        """Without the prompt, for an edit that needs a model with another prompt."""
        if self._silent.isdisjoint(one.edit.needs - {self._edited}):
            return reading
        return replace(reading, real=reading.real & ~reading.in_prompt)

    def _reading(self, part: Part, ids: Int[Tensor, "rows new"], mask: Int[Tensor, "rows time"]) -> Reading:
        new = ids.shape[1]
        texts: list[str] = []

        def so_far() -> list[str]:
            if not texts:
                texts.extend(self._vocabulary.text(written[-64:]) for written in part.written)
            return texts

        # A row that has written nothing reads its prompt, for the first time or again.
        in_prompt = torch.tensor([not written for written in part.written], device=ids.device)
        return Reading(
            position=(mask.cumsum(1) - 1)[:, -new:],
            real=mask[:, -new:].bool(),
            in_prompt=in_prompt[:, None].expand(ids.shape),
            numbers=part.numbers,
            texts=so_far,
            ends_prompt=not part.is_beginning,
        )
