"""Reading the residuals of several models on the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.models.sites import read_residual


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


def harvest(
    models: Mapping[str, PreTrainedModel],
    texts: Sequence[Text],
    layer: int,
    *,
    pad_id: int,
    skip_first: int,
    masked_ids: Sequence[int],
    batch_size: int,
) -> Iterator[Batch]:
    """Residuals after block `layer` of every model on every text, padded on the right.

    The first `skip_first` positions, padding, and positions at or after a token that means different things in
    different models are left out.
    """
    device = next(iter(models.values())).device
    for start in range(0, len(texts), batch_size):
        ids, kept = kept_positions(texts[start : start + batch_size], pad_id, skip_first, masked_ids)
        residuals = [residual(model, ids.to(device), layer)[kept.to(device)] for model in models.values()]
        row, position = kept.nonzero(as_tuple=True)
        yield Batch(torch.stack(residuals, dim=1).float().cpu(), row + start, position, ids[kept])


def kept_positions(
    texts: Sequence[Text], pad_id: int, skip_first: int, masked_ids: Sequence[int]
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Token ids padded on the right, and the positions whose residuals are read."""
    ids, kept = padded(texts, pad_id)
    kept &= torch.isin(ids, torch.tensor(masked_ids, dtype=torch.long)).cumsum(1) == 0
    kept[:, :skip_first] = False
    return ids, kept


@dataclass(frozen=True)
class Harvest:
    """The rows of `harvest` as an iterable that starts anew each time: a crosscoder trains on it without a store."""

    models: Mapping[str, PreTrainedModel]
    texts: Sequence[Text]
    layer: int
    pad_id: int
    skip_first: int
    masked_ids: Sequence[int]
    batch_size: int

    def __iter__(self) -> Iterator[Float[Tensor, "rows models d_model"]]:
        batches = harvest(
            self.models,
            self.texts,
            self.layer,
            pad_id=self.pad_id,
            skip_first=self.skip_first,
            masked_ids=self.masked_ids,
            batch_size=self.batch_size,
        )
        return (batch.resid for batch in batches)


@torch.inference_mode()
def residual(model: PreTrainedModel, ids: Int[Tensor, "batch time"], layer: int) -> Float[Tensor, "batch time d_model"]:
    """Residuals after a block. Right padding needs no mask under causal attention: no kept position sees it."""
    return read_residual(model, layer, input_ids=ids, use_cache=False)


def padded(texts: Sequence[Text], pad_id: int) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Token ids padded on the right, and which of them are text."""
    width = max(len(t.ids) for t in texts)
    ids = torch.tensor([t.ids + [pad_id] * (width - len(t.ids)) for t in texts])
    lengths = torch.tensor([len(t.ids) for t in texts])
    return ids, torch.arange(width)[None] < lengths[:, None]
