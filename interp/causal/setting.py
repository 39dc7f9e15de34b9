"""Everything that a run needs beside its edits: models, prompts, problems, and how completions are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import InterpError
from interp.folders import digest
from interp.generation.sampling import Writing, writing
from interp.generation.vocabulary import Vocabulary, read_vocabulary, vocabulary_size
from interp.models.trio import load_model
from interp.tasks.base import Problem, Task
from interp.traces.lexicon import Lexicon
from interp.traces.tokens import encode
from interp.workers import Spread, crew

SAMPLED, GREEDY = "sampled", "greedy"
"""How a run is decoded: at the study's temperature, or at 0."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Models on one task, each with its own tokenizer, prompts and end tokens.

    Pickled, it holds no weights: where it is opened, the models are read from `paths`.
    """

    models: Mapping[str, PreTrainedModel]
    tokenizers: Mapping[str, PreTrainedTokenizerBase]
    end_ids: Mapping[str, Sequence[int]]
    """Ids that end a completion, beside the tokenizer's end token."""
    prompts: Mapping[str, Sequence[str]]
    """Of every model, one a problem."""
    problems: Sequence[Problem]
    task: Task
    lexicon: Lexicon
    max_new_tokens: int
    temperature: float
    seed: int
    names: Mapping[str, str]
    """What identifies each model's weights: a folder's hash, a hub id with its revision."""
    rows: int = 2048
    """Most completions that are written together."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where each model can be read again; needed only with several workers."""
    workers: int = 1
    """Processes that write side by side, each with models of its own."""
    threads: int | None = None
    """CPU threads of each; None leaves them as they are."""

    def __post_init__(self) -> None:
        for name in self.models:
            if len(self.prompts[name]) != len(self.problems):
                raise InterpError(
                    f"runs: {len(self.prompts[name])} prompts of {name} for {len(self.problems)} problems; give as many"
                )

    def crew(self) -> AbstractContextManager[Spread]:
        """Who writes: the workers, for as long as the block lasts."""
        return crew(self.workers, self.threads, "causal.workers or causal.batch_size")

    def __getstate__(self) -> dict[str, Any]:
        devices = {name: model.device for name, model in self.models.items()}
        return self.__dict__ | {"models": devices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        models = {name: load_model(name, state["paths"][name], device) for name, device in state["models"].items()}
        self.__dict__.update(state | {"models": models})

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Of every model; those of one tokenizer and size are one."""
        seen: dict[tuple[int, int], Vocabulary] = {}
        found = {}
        for name, model in self.models.items():
            size = vocabulary_size(model)
            key = (id(self.tokenizers[name]), size)
            found[name] = seen.setdefault(key, seen.get(key) or read_vocabulary(self.tokenizers[name], size))
        return found

    @cached_property
    def encoded(self) -> dict[str, list[list[int]]]:
        """Token ids of every model's prompts."""
        return {name: [encode(self.tokenizers[name], p) for p in self.prompts[name]] for name in self.models}

    def own_prompts(self, model: str) -> set[str]:
        """The models whose prompts are not those of `model`."""
        return {name for name in self.models if self.encoded[name] != self.encoded[model]}

    def writing(self, model: str, decoding: str) -> Writing:
        """How `model` writes."""
        temperature = self.temperature if decoding == SAMPLED else 0.0
        return writing(self.tokenizers[model], self.max_new_tokens, temperature, self.seed, self.end_ids[model])

    @property
    def decodings(self) -> tuple[str, ...]:
        """Sampled and greedy; one of them where the study's temperature is 0."""
        return (SAMPLED, GREEDY) if self.temperature else (SAMPLED,)

    def key(self, model: str, needs: frozenset[str], numbers: Sequence[int]) -> str:
        """What a run depends on beside its edit."""
        used = sorted({model, *needs})
        lexicon = self.lexicon
        return digest(
            [
                {name: self.names[name] for name in used},
                [[self.encoded[name][i] for i in numbers] for name in used],
                [repr(self.task), [repr(self.problems[i]) for i in numbers]],  # a row holds its grade
                [lexicon.markers, lexicon.neutral, lexicon.mathematical, lexicon.affirmation],
                [self.max_new_tokens, self.temperature, self.seed, sorted(self.end_ids[model])],
            ]
        )
