"""Activations put in from elsewhere: another model's at the same tokens, another run's at the same positions, or none;
whole or for some heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.causal.edits.base import Edit, ResidualEdit, describe
from interp.causal.places import Places
from interp.errors import InterpError
from interp.models.hooks import Site, check_site, read_sites


@dataclass(frozen=True, eq=False)
class Patch(ResidualEdit):
    """h ← the `source` model's activation at the same site and tokens, or 0 where `source` is None; of the given heads
    alone at the site `z`, whose heads are `n_heads`."""

    source: str | None
    heads: tuple[int, ...] | None = field(default=None, kw_only=True)
    n_heads: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.heads is not None and self.site.name != "z":
            raise InterpError(f"{self.name}: {self.site} has no heads; patch heads at the site z")
        wrong = [head for head in self.heads or () if not 0 <= head < self.n_heads]
        if wrong:
            raise InterpError(f"{self.name}: no head {wrong[0]}; the model has heads 0 to {self.n_heads - 1}")

    def check_heads(self, n_heads: int) -> None:
        """Refuse a model with another number of heads."""
        if self.heads is not None and self.n_heads != n_heads:
            raise InterpError(
                f"{self.name}: n_heads is {self.n_heads}, the model has {n_heads} heads; give their number"
            )

    @property
    def target(self) -> str:
        """What is replaced, in words."""
        return f"{self.site}" + ("" if self.heads is None else f" heads {', '.join(map(str, self.heads))}")

    @property
    def name(self) -> str:
        return f"zero {self.target}" if self.source is None else f"patch {self.target} from {self.source}"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.source is None else frozenset({self.source})

    @property
    def claims(self) -> frozenset[str]:
        if self.heads is None:
            return frozenset({f"all of {self.site}"})
        return frozenset(f"head {head} of {self.site}" for head in self.heads)

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        new = h.new_zeros(h.shape) if self.source is None else others[self.source].to(h.dtype)
        return self.put(h, new)

    def put(self, h: Float[Tensor, "rows d"], new: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """`new`, or `h` with the chosen heads of `new`."""
        if self.heads is None:
            return new
        mixed = h.clone().view(len(h), self.n_heads, -1)
        mixed[:, list(self.heads)] = new.reshape(mixed.shape)[:, list(self.heads)]
        return mixed.view_as(h)


@dataclass(frozen=True, eq=False)
class PatchMean(Patch):
    """h ← the same activation at every place, such as its mean where nothing was wrong."""

    source: None = field(default=None, init=False)
    value: Float[Tensor, " d"] = field(kw_only=True)

    @property
    def name(self) -> str:
        return f"set {self.target} to a mean"

    def check(self, width: int) -> None:
        if len(self.value) != width:
            raise InterpError(f"{self.name}: its width is {len(self.value)}, that of {self.site} is {width}")

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        return self.put(h, self.value.to(h).expand_as(h))


@dataclass(frozen=True)
class Recording:
    """The activations of a run at one site, of each problem's text from its first token on."""

    name: str
    site: Site
    activations: Mapping[int, Float[Tensor, "time d"]]
    """By the problem's number."""

    @cached_property
    def flat(self) -> tuple[Float[Tensor, "all_times d"], dict[int, tuple[int, int]]]:
        """All of them one after the other, and each problem's (first row, length)."""
        begins, begin = {}, 0
        for number, x in self.activations.items():
            begins[number] = (begin, len(x))
            begin += len(x)
        return torch.cat(list(self.activations.values())), begins


def record(
    model: PreTrainedModel,
    ids: Mapping[int, Sequence[int]],
    layer: int,
    *,
    site: str = "resid_post",
    name: str = "a run",
) -> Recording:
    """What a model holds at a site while it reads these token ids, prompt and completion, by the problem's number
    (`Runs.ids` gives those of a run).

    Raises:
        InterpError: no such layer or site, or no texts.
    """
    where = Site(layer, site)
    check_site(model, where)
    if not ids:
        raise InterpError(f"record {where}: no texts; give the ids of at least one problem")
    found = {}
    with torch.inference_mode():
        for number, tokens in ids.items():
            read = read_sites(model, (where,), input_ids=torch.tensor([list(tokens)], device=model.device))
            found[number] = read[where][0].clone()
    return Recording(name, where, found)


@dataclass(frozen=True, eq=False)
class PatchRun(Patch):
    """h ← what another run of the same problem held at the same position. Problems and positions that the recording
    lacks stay as they are; tokens that are taken back are not counted, as in `Reading.position`."""

    source: None = field(default=None, init=False)
    recording: Recording = field(kw_only=True)

    @property
    def name(self) -> str:
        return f"patch {self.target} from {self.recording.name}"

    @property
    def by_row(self) -> bool:
        return True

    def check(self, width: int) -> None:
        wrong = [x for x in self.recording.activations.values() if x.shape[1] != width]
        if wrong:
            raise InterpError(
                f"{self.name}: the recording's width is {wrong[0].shape[1]}, that of {self.site} is {width}; record it "
                "from a model of this width"
            )

    def change_at(
        self,
        h: Float[Tensor, "rows d"],
        others: dict[str, Float[Tensor, "rows d"]],
        numbers: Int[Tensor, " rows"],
        positions: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows d"]:
        flat, begins = self.recording.flat
        nothing = (0, 0)
        begin, length = torch.tensor([begins.get(n, nothing) for n in numbers.tolist()], device=h.device).unbind(1)
        there = positions < length
        new = h.clone()
        new[there] = flat[(begin + positions)[there].to(flat.device)].to(h)
        return self.put(h, new)

    def describe(self) -> dict[str, Any]:
        kept = self.recording
        held = {str(number): describe(x) for number, x in kept.activations.items()}
        return {"edit": "PatchRun", "name": kept.name, "held": held} | {
            key: describe(getattr(self, key)) for key in ("site", "where", "heads", "n_heads")
        }


def patch_from(
    source: str | Recording,
    layer: int | None = None,
    *,
    site: str = "resid_post",
    heads: tuple[int, ...] | None = None,
    n_heads: int = 1,
) -> Patch:
    """Put another model's activation at the same tokens in (`source` is its name), or another run's at the same
    positions (`source` is a `record`, whose layer and site hold); `heads` and their number for parts of the site z.

    Raises:
        InterpError: a model without a layer.
    """
    if isinstance(source, Recording):
        return PatchRun(source.site, recording=source, heads=heads, n_heads=n_heads)
    if layer is None:
        raise InterpError(f"patch from {source}: no layer; give the block whose activation is put in")
    return Patch(Site(layer, site), source, heads=heads, n_heads=n_heads)


def zero(layer: int, *, site: str = "mlp_out", heads: tuple[int, ...] | None = None, n_heads: int = 1) -> Patch:
    """Take an activation away: an MLP's output, or some heads' at the site z."""
    return Patch(Site(layer, site), None, heads=heads, n_heads=n_heads)


def set_heads(
    heads: Sequence[tuple[int, int]], n_heads: int, to: Mapping[int, Float[Tensor, " width"]], where: Places
) -> Edit:
    """Attention heads (block, number) set to their part of these values, by block, at some places."""
    blocks = sorted({layer for layer, _ in heads})
    return reduce(
        or_,
        [
            PatchMean(
                Site(layer, "z"),
                heads=tuple(head for at, head in heads if at == layer),
                n_heads=n_heads,
                value=to[layer],
                where=where,
            )
            for layer in blocks
        ],
    )
