"""Models that read along while another one is edited: what they hold at a site, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.generation.part import Part
from interp.generation.sampling import CachedModel, left_padded
from interp.models.hooks import Site, read_sites

_HASH = 0x9E3779B97F4A7C15 - (1 << 64)
"""The multiplier of Fibonacci hashing (Knuth), as a signed integer."""


class Companion(CachedModel):
    """A model that reads along, up to the last site that is asked for. It is not edited itself, so that what it holds
    follows from the tokens alone: rows that have read the same, as the draws of an arm before they part, are read once.

    `prompts`, by job and row, are its own where they differ from the edited model's; then it is silent until the prompt
    is read, and does not see tokens of the other prompt that are read again.
    """

    def __init__(
        self, model: PreTrainedModel, sites: tuple[Site, ...], prompts: Sequence[Sequence[list[int]]] | None = None
    ):
        self._sites, self._prompts = sites, prompts
        super().__init__(model)

    def start(self) -> None:
        super().start()
        self._place: Int[Tensor, " batch"] | None = None
        """Row of the cache that each row of the batch reads from."""
        self._held = 0
        """Rows of the cache."""
        self._apart = False
        """Whether no two rows share one; they never will again."""
        self._own: Int[Tensor, "batch prompt"] | None = None
        self._ours: Int[Tensor, "batch since"] | None = None

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        # Rows of the cache that no row needs any more are dropped when it is read next.
        if self._place is not None:
            self._place = self._place[rows]
            self._apart = self._apart and len(rows.unique()) == len(rows)
        if self._own is not None:
            self._own = self._own[rows]
        if self._ours is not None:
            self._ours = self._ours[rows]

    def read(
        self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"], parts: Sequence[Part]
    ) -> dict[Site, Float[Tensor, "batch new d"]]:
        """The sites' activations at the new tokens; none at a prompt of another model."""
        if self._prompts is None:
            return self._read(ids, mask)
        if parts[0].is_beginning:
            return {}
        if self._own is None:
            prompts = [self._prompts[part.job][row] for part in parts for row in part.rows]
            own, self._own = left_padded(prompts, 0, self.device)
            self._read(own, self._own)
            self._ours = mask[:, :0]
            return {}
        assert self._ours is not None
        written = [bool(tokens) for part in parts for tokens in part.written]
        self._ours = torch.cat([self._ours, torch.tensor(written, device=mask.device).to(mask)[:, None]], dim=1)
        since = mask[:, -self._ours.shape[1] :] * self._ours
        return self._read(ids, torch.cat([self._own, since], dim=1))

    def _read(self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"]) -> dict[Site, Tensor]:
        first = self._arranged(ids, mask)
        if self._apart:
            return read_sites(self.model, self._sites, **self.inputs(ids, mask))
        found = read_sites(self.model, self._sites, **self.inputs(ids[first], mask[first]))
        return {site: h[self._place] for site, h in found.items()}

    def _arranged(self, ids: Int[Tensor, "batch new"], mask: Int[Tensor, "batch time"]) -> Int[Tensor, " groups"]:
        """Give each group of rows that have read the same a row of the cache; the first row of each group, in the order
        of the cache."""
        everything, before = torch.arange(len(ids), device=ids.device), self._place
        if self._apart and before is not None:
            if len(before) < self._held:
                self._cache.batch_select_indices(before)
                self._place, self._held = everything, len(before)
            return everything
        place = torch.zeros_like(everything) if before is None else before
        group, first = distinct(torch.cat([place[:, None], ids, mask], dim=1))
        order, stay = _stay(place[first], first)
        number = torch.empty_like(order)
        number[order] = everything[: len(order)]
        self._place, first = number[group], first[order]
        if before is not None:
            source = place[first]
            if stay < self._held:
                self._cache.batch_select_indices(source[:stay])
            self._cache.batch_append_indices(torch.searchsorted(source[:stay].contiguous(), source[stay:]), stay)
        self._apart, self._held = torch.equal(self._place, everything), len(first)
        return first


def distinct(rows: Int[Tensor, "batch width"]) -> tuple[Int[Tensor, " batch"], Int[Tensor, " groups"]]:
    """(each row's group, the first row of each group): rows of one group are equal."""
    weights = torch.arange(1, rows.shape[1] + 1, device=rows.device) * _HASH
    hashes = ((rows * weights) ^ (rows + weights) >> 29).sum(1) * _HASH
    values, group = hashes.unique(return_inverse=True)
    numbers = torch.arange(len(rows), device=rows.device)
    first = numbers.new_full((len(values),), len(rows)).scatter_reduce(0, group, numbers, "amin")
    if torch.equal(rows[first][group], rows):
        return group, first
    _, group = rows.unique(dim=0, return_inverse=True)  # two rows have one hash
    first = numbers.new_full((int(group.max()) + 1,), len(rows)).scatter_reduce(0, group, numbers, "amin")
    return group, first


def _stay(source: Int[Tensor, " groups"], first: Int[Tensor, " groups"]) -> tuple[Int[Tensor, " groups"], int]:
    """(an order of the groups, how many of them stay): first those that keep a row of the cache, by rising row, the
    one with the earliest `first` row of each `source`; then those that need a copy of what another group keeps."""
    order = (source * (int(first.max()) + 1) + first).argsort()
    ordered = source[order]
    keeps = torch.ones_like(ordered, dtype=torch.bool)
    keeps[1:] = ordered[1:] != ordered[:-1]
    return torch.cat([order[keeps], order[~keeps]]), int(keeps.sum())
