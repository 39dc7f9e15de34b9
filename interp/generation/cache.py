"""A KV cache that grows in place: a step writes its own positions and copies none of the earlier ones.

transformers' DynamicCache concatenates: every step copies all keys and values of every layer. Here a layer has room for
more positions than it holds, writes new ones behind the old, and gives attention views of the part in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 32
"""Positions of room that a layer takes beyond those it needs."""
PIECE = 1 << 24
"""Bytes of rows that move at once; main memory of this size is used again, larger is taken anew each time."""


class GrowingLayer(DynamicLayer):
    """Keys and values of a full-attention layer: the beginnings of two buffers with room for more positions.

    `keys` and `values` [batch, heads, time, head_dim] are views of the part in use. Whatever puts other tensors in
    their place (transformers' `crop`, `reorder_cache`, `reset`, `offload`) gives up the room; the next update takes it
    anew.
    """

    def __init__(self, room: int = ROOM):
        super().__init__()
        self.room = room
        self._buffers: list[Tensor] = []
        self._shown: Tensor | None = None

    def update(
        self,
        key_states: Float[Tensor, "batch heads new head_dim"],
        value_states: Float[Tensor, "batch heads new value_dim"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "batch heads time head_dim"], Float[Tensor, "batch heads time value_dim"]]:
        """Append new positions; returns views of all. Where gradients are taken, new tensors instead, since a backward
        pass refuses tensors that were written to."""
        if key_states.requires_grad or value_states.requires_grad:
            return super().update(key_states, value_states, *args, **kwargs)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before, states = self.get_seq_length(), [key_states, value_states]
        if not self._has_room(before + key_states.shape[-2]):
            self._take_room(states, before)
        return self._write(states, before)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times, the repeats of a row next to each other."""
        for keys in self._held()[:1]:
            self.batch_select_indices(torch.arange(len(keys), device=keys.device).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Int[Tensor, " kept"]) -> None:
        """Keep these rows, in this order. Rising rows move up where they are while at least half of the buffers' rows
        stay in use, so that the room stays too; views given earlier are then no longer valid."""
        held = self._held()
        if held and self._has_room(0) and 2 * len(indices) >= len(self._buffers[0]) and bool(_rise(indices)):
            self._move_up(held, indices.to(held[0].device))
        elif held:
            self.keys, self.values = (tensor.index_select(0, indices.to(tensor.device)) for tensor in held)
            self._buffers = []

    def batch_append_indices(self, indices: Int[Tensor, " more"]) -> None:
        """Add copies of these rows behind the last one. Buffers without room for them are doubled."""
        held = self._held()
        if not held or not len(indices):
            return
        rows, more = len(held[0]), len(indices)
        if not self._has_room(0) or rows + more > len(self._buffers[0]):
            positions, count = held[0].shape[-2] + self.room, max(2 * rows, rows + more)
            self._buffers = [old.new_empty((count, old.shape[1], positions, old.shape[-1])) for old in held]
            self._write(held, 0)
        for buffer, old in zip(self._buffers, held, strict=True):
            buffer[rows : rows + more, :, : old.shape[-2]] = old.index_select(0, indices.to(old.device))
        self._show(rows + more, held[0].shape[-2])

    @property
    def nbytes(self) -> int:
        """Bytes held, the room included."""
        return sum(tensor.nbytes for tensor in (self._buffers if self._in_buffers() else self._held()))

    def _held(self) -> list[Tensor]:
        """Keys and values; nothing before the first update."""
        return [tensor for tensor in (self.keys, self.values) if tensor is not None and tensor.numel()]

    def _in_buffers(self) -> bool:
        return bool(self._buffers) and self._shown is self.keys

    def _has_room(self, positions: int) -> bool:
        """Whether what is held can be written to and have this many positions where it is."""
        if not self._in_buffers():
            return False
        # Tensors made in inference mode may not be written to outside of it.
        writable = torch.is_inference_mode_enabled() or not self._buffers[0].is_inference()
        return writable and positions <= self._buffers[0].shape[-2]

    def _move_up(self, held: list[Tensor], indices: Int[Tensor, " kept"]) -> None:
        """No row that is still to be read is written over, since a row of rising ones never moves down."""
        for tensor in held:
            place = 0
            for some in indices.split(max(1, PIECE * len(tensor) // tensor.nbytes)):
                tensor[place : place + len(some)] = tensor.index_select(0, some)
                place += len(some)
        self._show(len(indices), held[0].shape[-2])

    def _take_room(self, states: list[Tensor], before: int) -> None:
        """Move what is held to new buffers with room after the new positions."""
        positions = before + states[0].shape[-2] + self.room
        held = self._held()
        self._buffers = [new.new_empty((*new.shape[:2], positions, new.shape[-1])) for new in states]
        if before:
            self._write(held, 0)

    def _write(self, states: Sequence[Tensor], start: int) -> tuple[Tensor, Tensor]:
        """Write positions from `start` on, and show the rows and positions up to the last of them."""
        rows, end = len(states[0]), start + states[0].shape[-2]
        for buffer, new in zip(self._buffers, states, strict=True):
            buffer[:rows, :, start:end] = new
        return self._show(rows, end)

    def _show(self, rows: int, end: int) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:rows, :, :end] for buffer in self._buffers)
        self.keys, self.values, self._shown = keys, values, keys
        return keys, values


class GrowingCache(DynamicCache):
    """DynamicCache(config=config) whose full-attention layers grow in place; other layers are transformers' own.

    `room` is the number of positions that a layer takes beyond those it needs whenever it has none left: the number of
    tokens to generate, where it is known and fits into memory. A layer that moves to larger buffers holds both for a
    moment, as every layer of a DynamicCache does at every step.
    """

    def __init__(self, config: PreTrainedConfig, room: int = ROOM):
        super().__init__(config=config)
        self.layers = [GrowingLayer(room) if type(layer) is DynamicLayer else layer for layer in self.layers]

    def batch_append_indices(self, indices: Int[Tensor, " more"], rows: int) -> None:
        """Add copies of these rows behind the last one, of `rows`."""
        everything = torch.cat([torch.arange(rows, device=indices.device), indices])
        for layer in self.layers:
            if isinstance(layer, GrowingLayer):
                layer.batch_append_indices(indices)
            elif len(indices):
                layer.batch_select_indices(everything)  # type: ignore[attr-defined]

    @property
    def nbytes(self) -> int:
        """Bytes of all layers, the room included."""
        return sum(map(_layer_bytes, self.layers))


def sees_all(cache: DynamicCache, positions: int) -> bool:
    """Whether every layer attends to all earlier ones of this many positions: no window is shorter, and no state is
    recurrent. Where one does not, padding between two tokens of a text would count."""
    return all(
        type(layer) in (DynamicLayer, GrowingLayer)
        or (type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= positions)
        for layer in cache.layers
    )


def _rise(indices: Int[Tensor, " kept"]) -> Bool[Tensor, ""]:
    return (indices[1:] > indices[:-1]).all()


def _layer_bytes(layer: Any) -> int:
    if isinstance(layer, GrowingLayer):
        return layer.nbytes
    held = [value for name in vars(layer).values() for value in (name.values() if isinstance(name, dict) else [name])]
    return sum(value.nbytes for value in held if isinstance(value, Tensor))
