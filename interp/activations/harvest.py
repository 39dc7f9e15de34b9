"""Reading the residuals of several models on the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.models.sites import read_beginning, read_residual
from interp.traces.tokens import shared_beginning


@dataclass(frozen=True)
class Text:
    """One text of the token stream."""

    ids: list[int]
    model: str
    """Whose rollout it is."""
    problem: str
    completion_start: int
    """Number of prompt tokens."""


@dataclass(frozen=True)
class Batch:
    """Residuals of some texts, only of the positions that are kept."""

    resid: Float[Tensor, "rows models d_model"]
    text: Int[Tensor, " rows"]
    position: Int[Tensor, " rows"]
    token: Int[Tensor, " rows"]


def moved(resid: Float[Tensor, "rows models d_model"]) -> Float[Tensor, "rows models"]:
    """|x_m - x_0| / |x_0| of every row, in fp64: how far from the first model's residual each model's lies. Update size
    confounds every comparison of models, so it stands beside them."""
    x = resid.double()
    return (x - x[:, :1]).norm(dim=2) / x[:, :1].norm(dim=2)


@dataclass(frozen=True)
class Harvest:
    """Residuals after block `layer` of every model on every text, padded on the right.

    The first `skip_first` positions, padding, and positions at or after one of `masked_ids`, which mean different
    things in different models, are left out. Iterating gives the rows [rows, models, d_model] of one batch of texts
    after the other, and starts anew each time: a crosscoder trains on it without a store.
    """

    models: Mapping[str, PreTrainedModel]
    texts: Sequence[Text]
    layer: int
    pad_id: int
    batch_size: int
    skip_first: int = 0
    masked_ids: Sequence[int] = ()

    def __iter__(self) -> Iterator[Float[Tensor, "rows models d_model"]]:
        return (batch.resid for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """The rows, on the CPU, and where they come from."""
        for start, ids, kept in self.tokens():
            row, position = (where.cpu() for where in kept.nonzero(as_tuple=True))
            yield Batch(self.rows(ids, kept).cpu(), row + start, position, ids[kept].cpu())

    def tokens(self) -> Iterator[tuple[int, Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]]:
        """(number of the first text, token ids, positions that are kept) of every batch, on the models' device."""
        device, masked = next(iter(self.models.values())).device, torch.tensor(self.masked_ids, dtype=torch.long)
        for start in range(0, len(self.texts), self.batch_size):
            ids, kept = padded(self.texts[start : start + self.batch_size], self.pad_id)
            kept &= torch.isin(ids, masked).cumsum(1) == 0
            kept[:, : self.skip_first] = False
            yield start, ids.to(device), kept.to(device)

    @torch.inference_mode()
    def rows(
        self, ids: Int[Tensor, "batch time"], kept: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "rows models d_model"]:
        """Every model's residuals at the kept positions, in fp32. Right padding needs no mask under causal attention:
        no kept position sees it."""
        n = shared_columns(ids, kept)

        def read(model: PreTrainedModel) -> Float[Tensor, "rows d_model"]:
            begun = read_beginning(model, ids[0, :n], len(ids), self.layer)
            return read_residual(model, self.layer, input_ids=ids[:, n:], **begun)[kept[:, n:]]

        return torch.stack([read(model) for model in self.models.values()], dim=1).float()


def shared_columns(ids: Int[Tensor, "batch time"], kept: Bool[Tensor, "batch time"]) -> int:
    """Columns at the start that are the same in all rows and not kept, so that one reading of them serves all; 0 where
    they are few."""
    columns = kept.any(0).nonzero()
    return shared_beginning(ids.tolist(), int(columns[0])) if len(columns) else 0


def padded(texts: Sequence[Text], pad_id: int) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Token ids padded on the right, and which of them are text."""
    width = max(len(t.ids) for t in texts)
    ids = torch.tensor([t.ids + [pad_id] * (width - len(t.ids)) for t in texts])
    lengths = torch.tensor([len(t.ids) for t in texts])
    return ids, torch.arange(width)[None] < lengths[:, None]
