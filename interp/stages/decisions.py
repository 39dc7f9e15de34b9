"""What the stages `sites` and `features` share: the problems that are held back, and the contrasts of a decision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from interp.features.contrasts import (
    Contrast,
    InjectedPair,
    decision_margin,
    injected_pairs,
    marker_neutral,
    onset_fork,
    said_again,
    second_first,
    wrong_right,
)
from interp.features.margin import Margin
from interp.features.noticing import Judge
from interp.models.hooks import Site
from interp.models.trio import Trio, load_model, pick_device
from interp.names import EDITED
from interp.stages.problems import labels_by_construction, task_of, test_problems
from interp.study import Study
from interp.tasks.base import Task
from interp.traces.lexicon import Lexicon, Span, load_lexicon
from interp.traces.segment import by_construction, by_sentences
from interp.traces.tokens import pad_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def site_of(study: Study) -> Site:
    """The site at which the study reads residuals."""
    return Site(**json.loads((study.folder("sites") / "site.json").read_text())["read"])


def held_back(study: Study) -> list[str]:
    """Ids of the problems on which nothing is chosen: of the study's, in its order, the first `sites.held_back`, at
    most half."""
    problems = _problems(study)
    return problems[: min(study.config.sites.held_back, len(problems) // 2)]


def _problems(study: Study) -> list[str]:
    traces = pl.read_parquet(study.folder("traces") / "traces.parquet", columns=["problem"], glob=False)
    return traces["problem"].unique(maintain_order=True).to_list()


@dataclass(frozen=True)
class Decisions:
    """The decisions of a study's models on the problems that are not held back."""

    study: Study
    trio: Trio

    @cached_property
    def task(self) -> Task:
        return task_of(self.study.config)

    @cached_property
    def lexicon(self) -> Lexicon:
        return load_lexicon(self.study.config.traces.lexicon)

    @cached_property
    def traces(self) -> pl.DataFrame:
        """All models' rollouts of the problems that are not held back."""
        table = pl.read_parquet(self.study.folder("traces") / "traces.parquet", glob=False)
        return table.filter(~pl.col("problem").is_in(held_back(self.study)))

    def written_by(self, name: str) -> pl.DataFrame:
        """One model's rollouts."""
        return self.traces.filter(pl.col("model") == name)

    def injected(self, name: str) -> list[InjectedPair]:
        """Errors in one model's own right steps."""
        mine = self.written_by(name).head(self.study.config.sites.problems)
        return injected_pairs(mine, self.trio.tokenizers[name], self.task, self.study.config.seed)

    @cached_property
    def margin(self) -> Margin | None:
        """Of the edited model's decision to check."""
        return decision_margin(self.written_by(EDITED))

    @cached_property
    def edited(self) -> PreTrainedModel:
        """The model whose decisions these are."""
        return self._load(EDITED)

    def model(self, name: str) -> PreTrainedModel:
        """One of the models, loaded anew unless it is the edited one, which is kept."""
        return self.edited if name == EDITED else self._load(name)

    def _load(self, name: str) -> PreTrainedModel:
        return load_model(name, self.trio.paths[name], pick_device(self.study.config.device))

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Pairs of prefixes of the edited model's texts, which every model reads."""
        mine, most, seed = self.written_by(EDITED), self.study.config.sites.problems, self.study.config.seed
        again = second_first(mine, self.trio.tokenizer, self.lexicon, most, seed)
        return [
            wrong_right(self.injected(EDITED), self.margin),
            onset_fork(mine, self.margin, most, seed),
            marker_neutral(mine, self.trio.tokenizer, self.lexicon, most, seed),
            said_again(again, self.edited, pad_id(self.trio.tokenizer), self.study.config.sites.batch_size),
        ]

    @property
    def judge(self) -> Judge:
        """What tells whether a text checks, mends and is right."""
        by_equations, lexicon = labels_by_construction(self.study.config), self.lexicon

        def label(text: str) -> list[Span]:
            return by_construction(text) if by_equations else by_sentences(text, lexicon)

        return Judge(self.task, lexicon, {p.id: p for p in test_problems(self.study.config)}, label)
