"""Reading the residuals of several models on the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.activations.texts import Text, kept_positions
from interp.models.hooks import Site, read_beginning, read_sites
from interp.traces.tokens import shared_beginning


@dataclass(frozen=True)
class Reading:
    """A batch of texts as one model reads them, padded on the right."""

    ids: Int[Tensor, "batch time"]
    kept: Bool[Tensor, "batch time"]
    """Positions whose residuals are read. In every model's reading they hold the same tokens in the same order."""

    def to(self, device: torch.device) -> Reading:
        return Reading(self.ids.to(device), self.kept.to(device))


@dataclass(frozen=True)
class Readings:
    """A batch of texts as they stand in the token stream, and as each model reads them."""

    numbers: Int[Tensor, " batch"]
    """The texts' numbers."""
    written: Reading
    by_model: Mapping[str, Reading]
    """All are `written` where no text has prompts that differ."""


@dataclass(frozen=True)
class Batch:
    """Residuals of some texts at the positions that are kept, in fp32."""

    resid: Float[Tensor, "rows models d_model"]
    also: Mapping[Site, Float[Tensor, "rows models d_model"]]
    """The same rows at further sites."""
    text: Int[Tensor, " rows"]
    """Number of the text."""
    position: Int[Tensor, " rows"]
    """Position in the text's `ids`."""
    token: Int[Tensor, " rows"]


def moved(resid: Float[Tensor, "rows models d_model"]) -> Float[Tensor, "rows models"]:
    """|x_m - x_0| / |x_0| of every row and model, in fp64: the distance from the first model's residual. Training that
    moves residuals further confounds every comparison of models, so this number is printed beside them."""
    x = resid.double()
    return (x - x[:, :1]).norm(dim=2) / x[:, :1].norm(dim=2)


@dataclass(frozen=True)
class Harvest:
    """Residuals at one site of every model on every text, padded on the right.

    The first `skip_first` positions, padding, positions that an earlier text holds (`Text.fresh`), and positions of
    `masked_ids`, which mean different things in different models, are left out; texts of which nothing is left are not
    read. Where the models' prompts differ, each model reads its own and the rows are those of the completion.

    Iterating gives the rows [rows, models, d_model] of one batch of texts after the other, and starts anew each time:
    a crosscoder can be trained on it without a store.
    """

    models: Mapping[str, PreTrainedModel]
    texts: Sequence[Text]
    site: Site
    pad_id: int
    batch_size: int
    """Texts of a batch."""
    skip_first: int = 0
    masked_ids: Sequence[int] = ()
    also: Sequence[Site] = ()
    """Further sites that are read in the same pass."""

    def __iter__(self) -> Iterator[Float[Tensor, "rows models d_model"]]:
        return (batch.resid for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """The rows, on the CPU, and their origin."""
        for readings in self.readings():
            ids, kept = readings.written.ids, readings.written.kept
            row, position = kept.nonzero(as_tuple=True)
            rows = {site: x.cpu() for site, x in self.at(readings, (self.site, *self.also)).items()}
            also = {site: rows[site] for site in self.also}
            yield Batch(rows[self.site], also, readings.numbers[row], position, ids[kept])

    def readings(self) -> Iterator[Readings]:
        """The token ids of every batch, on the CPU."""
        kept = [kept_positions(text, self.skip_first, self.masked_ids) for text in self.texts]
        numbers = [i for i, positions in enumerate(kept) if positions.any()]
        for start in range(0, len(numbers), self.batch_size):
            some = numbers[start : start + self.batch_size]
            texts, positions = [self.texts[i] for i in some], [kept[i] for i in some]
            written = padded([text.ids for text in texts], positions, self.pad_id)
            by_model = dict.fromkeys(self.models, written)
            if any(text.prompts for text in texts):
                by_model = {name: read_by(slot, texts, positions, self.pad_id) for slot, name in enumerate(self.models)}
            yield Readings(torch.tensor(some), written, by_model)

    def rows(self, readings: Readings) -> Float[Tensor, "rows models d_model"]:
        """Every model's residuals at the site and at the kept positions, in fp32."""
        return self.at(readings, (self.site,))[self.site]

    @torch.inference_mode()
    def at(self, readings: Readings, sites: tuple[Site, ...]) -> dict[Site, Float[Tensor, "rows models d_model"]]:
        """The same at several sites. Right padding needs no mask under causal attention: it comes after every kept
        position."""
        by_model = [_read(model, readings.by_model[name], sites) for name, model in self.models.items()]
        return {site: torch.stack([read[site] for read in by_model], dim=1).float() for site in sites}


def _read(model: PreTrainedModel, reading: Reading, sites: tuple[Site, ...]) -> dict[Site, Float[Tensor, "rows d"]]:
    """One model's activations at the kept positions; blocks after the last site do not run."""
    n = shared_columns(reading)
    reading = reading.to(model.device)
    begun = read_beginning(model, reading.ids[0, :n], len(reading.ids), max(sites, key=lambda site: site.layer))
    seen = read_sites(model, sites, input_ids=reading.ids[:, n:], **begun)
    return {site: seen[site][reading.kept[:, n:]] for site in sites}


def shared_columns(reading: Reading) -> int:
    """Number of columns at the start that are the same in all rows and not kept, so that they can be read once for all
    rows; 0 where they are few."""
    columns = reading.kept.any(0).nonzero()
    return shared_beginning(reading.ids.tolist(), int(columns[0])) if len(columns) else 0


def read_by(slot: int, texts: Sequence[Text], kept: Sequence[Bool[np.ndarray, " _"]], pad_id: int) -> Reading:
    """The texts as model number `slot` reads them; `kept` are positions of the texts' `ids`."""
    own = []
    for text, positions in zip(texts, kept, strict=True):
        prompt = [False] * len(text.prompts[slot]) if text.prompts else positions[: text.completion_start]
        own.append(np.concatenate([prompt, positions[text.completion_start :]]).astype(bool))
    return padded([text.read_by(slot) for text in texts], own, pad_id)


def padded(rows: Sequence[list[int]], kept: Sequence[Bool[np.ndarray, " _"]], pad_id: int) -> Reading:
    """Token ids and kept positions, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, positions in enumerate(kept):
        mask[i, : len(positions)] = torch.from_numpy(positions)
    return Reading(ids, mask)
