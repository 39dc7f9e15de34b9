"""The next token after many prefixes, read again and again under changes of the last position's activations.

All but the last token of every prefix is read once and kept, and so is what the blocks return for the last. What a
model does at one position under an edit there (a patched site, an ablated latent) then costs a forward over one token
through the blocks from the edit on, with gradients if they are wanted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from interp.generation.cache import sees_all
from interp.generation.sampling import cached_inputs, left_padded
from interp.models.hooks import Site, block_outputs, changing, read_beginning, read_sites, replaying
from interp.traces.tokens import shared_beginning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS = 256
"""Prefixes that are read together."""
_REPLACE = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers of a cache that replace their tensors."""

ChangeRows = Callable[[Float[Tensor, "rows width"], slice], Float[Tensor, "rows width"]]
"""A site's activations of some prefixes, and which of all these are, to the activations in their stead."""


@dataclass(frozen=True)
class _Part:
    here: slice
    last: Int[Tensor, "rows 1"]
    mask: Int[Tensor, "rows time"]
    cache: Any


class Prefixes:
    """Prefixes of texts as one model reads them, ready for their last token."""

    def __init__(self, model: PreTrainedModel, rows: Sequence[Sequence[int]], pad_id: int, batch_size: int = ROWS):
        """
        Args:
            rows: token ids, at least two of each prefix.
            batch_size: prefixes of one forward; the keys and values of all prefixes are kept, and what the blocks
                return at their last positions.

        Raises:
            ValueError: no prefix, or one of fewer than two tokens.
        """
        if not rows or min(map(len, rows)) < 2:
            raise ValueError("prefixes: give at least one, and at least two tokens of each")
        self.model = model.eval()
        self._parts = [
            self._begin(rows[start : start + batch_size], slice(start, min(start + batch_size, len(rows))), pad_id)
            for start in range(0, len(rows), batch_size)
        ]

    @torch.no_grad()
    def _begin(self, rows: Sequence[Sequence[int]], here: slice, pad_id: int) -> _Part:
        cache, texts = DynamicCache(config=self.model.config), [list(row) for row in rows]
        longest = max(map(len, texts))
        shared = shared_beginning([text[:-1] for text in texts]) if sees_all(cache, longest) else 0
        if shared:
            head = torch.tensor(texts[0][:shared], device=self.model.device)
            cache = read_beginning(self.model, head, len(texts))["past_key_values"]
        ids, mask = left_padded([text[shared:] for text in texts], pad_id, self.model.device)
        mask = torch.cat([mask.new_ones(len(mask), shared), mask], dim=1)
        self._forward(ids[:, :-1], mask[:, :-1], cache)
        cache.layers = [_with_slot(x) for x in cache.layers]
        return _Part(here, ids[:, -1:], mask, cache)

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        return self.model(**cached_inputs(ids, mask, cache), logits_to_keep=1).logits[:, -1].float()

    @torch.no_grad()
    def read(self, sites: Sequence[Site]) -> dict[Site, Float[Tensor, "prefixes width"]]:
        """The activations of some sites at the last position."""
        found: dict[Site, list[Tensor]] = {site: [] for site in sites}
        for part in self._parts:
            inputs = cached_inputs(part.last, part.mask, _shallow(part.cache))
            for site, h in read_sites(self.model, tuple(sites), **inputs).items():
                found[site].append(h[:, -1])
        return {site: torch.cat(parts) for site, parts in found.items()}

    def logits(self, changes: Mapping[Site, ChangeRows] | None = None) -> Float[Tensor, "prefixes vocab"]:
        """Logits of the next token with the last position's activations changed; nothing else is changed. Gradients
        flow through the changes where they are enabled."""
        parts, changes = [], changes or {}
        unchanged = min((site.layer for site in changes), default=0)
        for i, part in enumerate(self._parts):
            wrapped = {site: _at_last(change, part.here) for site, change in changes.items()}
            before = self._returned[i][:unchanged] if unchanged else []
            with replaying(self.model, before), changing(self.model, wrapped):
                parts.append(self._forward(part.last, part.mask, _shallow(part.cache)))
        return torch.cat(parts)

    @cached_property
    @torch.no_grad()
    def _returned(self) -> list[list[Any]]:
        """What each block returns at the last position, by part."""
        inputs = (cached_inputs(part.last, part.mask, _shallow(part.cache)) for part in self._parts)
        return [block_outputs(self.model, **given, logits_to_keep=1) for given in inputs]


def _with_slot(layer: Any) -> Any:
    if type(layer) is not DynamicLayer or layer.keys is None or layer.values is None:
        return layer
    return _Slot(layer.keys, layer.values)


class _Slot(DynamicLayer):
    """Keys and values of the prefixes with room for one token, which every forward writes anew: nothing is copied."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values = (torch.nn.functional.pad(x, (0, 0, 0, 1)) for x in (keys, values))
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, -1:], self.values[:, :, -1:] = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.keys.shape[-2] - 1

    def without(self) -> DynamicLayer:
        """A layer of the prefixes alone, which a forward with gradients may extend."""
        layer: Any = DynamicLayer()
        layer.keys, layer.values = self.keys[:, :, :-1], self.values[:, :, :-1]
        layer.dtype, layer.device, layer.is_initialized = self.dtype, self.device, True
        return layer


def _shallow(cache: Any) -> Any:
    """A cache that a forward may extend: a layer of attention replaces its tensors or writes its free slot; a recurrent
    state is written in place, so it is copied."""
    own = copy.copy(cache)
    own.layers = [_extendable(x) for x in cache.layers]
    return own


def _extendable(layer: Any) -> Any:
    if isinstance(layer, _Slot):
        return layer.without() if torch.is_grad_enabled() else layer
    return copy.copy(layer) if type(layer) in _REPLACE else copy.deepcopy(layer)


def _at_last(change: ChangeRows, here: slice) -> Callable[[Tensor], Tensor]:
    return lambda h: torch.cat([h[:, :-1], change(h[:, -1], here)[:, None].to(h.dtype)], dim=1)
