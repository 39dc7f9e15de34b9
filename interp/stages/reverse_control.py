"""Reverse controls of the confirmed latents, read from the study's models: a part of the stage `features`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from scipy.sparse import csc_array
from transformers import PreTrainedModel

from interp.activations.harvest import Harvest
from interp.activations.texts import Text
from interp.crosscoder import Crosscoder
from interp.features.codes import column
from interp.features.falsify import Paraphrase, answers, kind_of, top_tokens
from interp.features.labelled import Labelled
from interp.features.paraphrase import marker_ids, paraphrases
from interp.models.hooks import Site
from interp.names import BEHAVIOURS, EDITED
from interp.stages.decisions import Decisions
from interp.traces.labels import INSIDE, NONE

ANSWERS = ("at_own", "at_markers", "at_others", "at_places", "paraphrased")
"""Columns of what a confirmed latent answers to words alone, in the order of `kind_of`."""


@dataclass(frozen=True)
class Said:
    """How the edited model writes: its markers, and its texts among other words."""

    markers: list[list[int]]
    paraphrases: list[Paraphrase]


def said_by_the_edited(decisions: Decisions, most: int) -> Said:
    """Of its rollouts on the problems that are not held back."""
    mine, tokenizer = decisions.written_by(EDITED).to_dicts(), decisions.trio.tokenizers[EDITED]
    return Said(marker_ids(mine, tokenizer), paraphrases(mine, tokenizer, decisions.lexicon, most))


@dataclass(frozen=True)
class Reader:
    """Reads the code at some positions of texts."""

    models: Mapping[str, PreTrainedModel]
    cc: Crosscoder
    site: Site
    latents: Sequence[int]

    def __call__(self, texts: Sequence[Text], places: Sequence[Sequence[int]]) -> np.ndarray:
        """[places, latents]; later tokens cannot change a place and are cut."""
        cut = [replace(text, ids=text.ids[: max(at) + 1], fresh=0) for text, at in zip(texts, places, strict=True)]
        wanted = {(i, place): n for n, (i, place) in enumerate((i, p) for i, at in enumerate(places) for p in at)}
        found = np.zeros((len(wanted), len(self.latents)), dtype=np.float32)
        first = min(min(at) for at in places)
        index = torch.tensor(list(self.latents), device=self.cc.mean.device)
        for batch in Harvest(self.models, cut, self.site, pad_id=0, batch_size=128, skip_first=first).batches():
            at = [wanted.get(key) for key in zip(batch.text.tolist(), batch.position.tolist(), strict=True)]
            here = torch.tensor([n is not None for n in at])
            f = self.cc.encode(batch.resid[here].to(self.cc.mean.device), index)
            found[[n for n in at if n is not None]] = f.float().cpu().numpy()
        return found


def kinds(
    models: Mapping[str, PreTrainedModel],
    cc: Crosscoder,
    f: csc_array,
    data: Labelled,
    latents: pl.DataFrame,
    said: Said,
    n_texts: int,
    seed: int,
) -> list[pl.Series]:
    """Reverse controls of every confirmed latent: its `kind`; `inside`, its mean activation over the rows inside its
    behaviours (off markers, zeros included); and what it answers to words alone (`falsify.Answers`)."""
    columns = {name: np.full(len(latents), np.nan) for name in ("inside", *ANSWERS)}
    kind = ["unconfirmed" if rate > 0 else "" for rate in latents["firing_rate"]]
    confirmed = latents.filter(pl.any_horizontal(f"confirmed_{b}" for b in BEHAVIOURS))["latent"].to_list()
    quiet, tokens = _without_behaviour(data, n_texts), data.store.index["token"].to_numpy()
    own: dict[int, list[int]] = {}
    for j in confirmed if quiet else []:
        rows, values = column(f, j)
        here = np.logical_or.reduce([data.at(b, INSIDE) for b in BEHAVIOURS if latents[f"confirmed_{b}"][j]])
        own[j] = top_tokens(tokens[rows[here[rows]]], values[here[rows]])
        columns["inside"][j] = values[here[rows]].sum() / here.sum()
    if own:
        every = [token for top in own.values() for token in top]
        got = answers(
            quiet, every, said.markers, said.paraphrases, Reader(models, cc, data.store.place, confirmed), seed
        )
        for i, j in enumerate(confirmed):
            on_own = float(np.mean([got.by_token[token][i] for token in own[j]]))
            measured = on_own, *(float(getattr(got, name)[i]) for name in ANSWERS[1:])
            for name, value in zip(ANSWERS, measured, strict=True):
                columns[name][j] = value
            kind[j] = kind_of(float(columns["inside"][j]), *measured)
    return [pl.Series("kind", kind), *(pl.Series(name, values) for name, values in columns.items())]


def _without_behaviour(data: Labelled, n: int) -> list[Text]:
    """The subject's rollouts without any behaviour or marker, among the first `n` such that are labelled."""
    text_of = data.store.index["text"].to_numpy()
    busy, known = data.in_any(INSIDE) | data.at_marker(), ~data.in_all(NONE)
    quiet = sorted(set(text_of[known & (data.row_model == data.subject)].tolist()) - set(text_of[busy].tolist()))
    texts = [Text(**row) for row in data.texts[quiet[:n]].iter_rows(named=True)]
    return [t for t in texts if len(t.ids) > t.completion_start + 1]
