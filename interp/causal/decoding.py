"""Generation under an edit of the residual; the other models read the same tokens where the edit needs theirs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.causal.edits import ResidualEdit
from interp.generation.sampling import CachedModel
from interp.models.sites import editing, read_residual


class CutModel(CachedModel):
    """One model with its KV cache, run up to a block: its residual after that block."""

    def __init__(self, model: PreTrainedModel, layer: int):
        self._layer = layer
        super().__init__(model)

    def read(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch new d_model"]:
        return read_residual(self.model, self._layer, **self.inputs(ids, mask))


class EditedDecoder:
    """The model `edited` among `models`, its residual after block `layer` changed by `edit` at every position.

    Every model reads the same tokens with a cache of its own. The others stop after the block. Positions below
    `skip_first` are not edited: the dictionary was never trained on them.
    """

    def __init__(
        self,
        models: Mapping[str, PreTrainedModel],
        edited: str,
        layer: int,
        edit: ResidualEdit,
        *,
        read_along: bool = True,
        skip_first: int = 0,
    ):
        self._layer, self._edit, self._skip_first = layer, edit, skip_first
        self._names = list(models) if read_along else [edited]
        self._edited = edited
        self._model = models[edited]
        self._main = CachedModel(self._model)
        self._companions = {name: CutModel(models[name], layer) for name in self._names if name != edited}
        self.device = self._model.device

    def start(self) -> None:
        for part in (self._main, *self._companions.values()):
            part.start()

    def spread(self, times: int) -> None:
        for part in (self._main, *self._companions.values()):
            part.spread(times)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        for part in (self._main, *self._companions.values()):
            part.keep(rows)

    def step(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], copy: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocab"]:
        others = {name: part.read(ids, mask) for name, part in self._companions.items()}
        position = (mask.cumsum(1) - 1)[:, -ids.shape[1] :]
        edited_here = (position >= self._skip_first)[..., None]

        def change(own: Tensor) -> Tensor:
            x = torch.stack([own if name == self._edited else others[name] for name in self._names], dim=2)
            rows = x.flatten(0, 1)
            delta = self._edit.delta(rows, copy.repeat_interleave(ids.shape[1])).view_as(own).to(own.dtype)
            return own + torch.where(edited_here, delta, torch.zeros_like(delta))

        with editing(self._model, self._layer, change):
            return self._main.step(ids, mask, copy)
