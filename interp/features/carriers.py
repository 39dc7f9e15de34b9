"""What else may carry a decision than latents: one direction, and attention heads. A claim about latents stands beside
what these do at the same places.

Both are fitted on the choosing half, and like the latents they are set back: to their mean on the negative side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.features.attribution import Decision
from interp.models.hooks import Site
from interp.models.prefixes import ChangeRows

Head = tuple[int, int]
"""Block and number of an attention head."""


@dataclass(frozen=True, eq=False)
class Carriers:
    """The direction and the heads of one contrast."""

    unit: Float[Tensor, " d_model"]
    """The difference of the two sides' means at the site, at norm 1."""
    level: float
    """Mean component along it on the negative side."""
    heads: tuple[Head, ...]
    """All heads, the largest exact effect first."""
    z: Mapping[int, Float[Tensor, " width"]]
    """Block to the mean output of its heads, side by side, on the negative side."""
    n_heads: int

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {"unit": self.unit} | {f"z.{layer}": z for layer, z in self.z.items()}
        about = {"level": self.level, "heads": self.heads, "n_heads": self.n_heads}
        kept = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(kept, path, {name: json.dumps(value) for name, value in about.items()})

    @classmethod
    def load(cls, path: Path) -> Carriers:
        """Read what `save` wrote."""
        with safe_open(path, "pt") as file:
            about = {name: json.loads(value) for name, value in file.metadata().items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        z = {int(name.removeprefix("z.")): tensor for name, tensor in tensors.items() if name != "unit"}
        heads = tuple((layer, head) for layer, head in about["heads"])
        return cls(tensors["unit"], about["level"], heads, z, about["n_heads"])


@torch.no_grad()
def carriers(choosing: Decision, n_heads: int) -> Carriers:
    """The direction and the heads' order, of the subject alone.

    Args:
        n_heads: of the subject, all heads of a block side by side at the site `z`.
    """
    positive, negative, margin = choosing.positive, choosing.negative, choosing.margin
    above, below = (side.h.float().mean(0) for side in (positive, negative))
    unit = (above - below) / (above - below).norm().clamp_min(1e-12)
    depth = positive.prefixes.model.config.get_text_config().num_hidden_layers
    read = negative.prefixes.read([Site(layer, "z") for layer in range(depth)])
    z = {site.layer: value.float().mean(0) for site, value in read.items()}

    def left(head: Head) -> float:
        return float(margin.of(positive.prefixes.logits(heads_to([head], n_heads, z))).mean())

    order = sorted(((layer, head) for layer in range(depth) for head in range(n_heads)), key=left)
    return Carriers(unit, float(below @ unit), tuple(order), z, n_heads)


def heads_to(heads: Sequence[Head], n_heads: int, to: Mapping[int, Float[Tensor, " width"]]) -> dict[Site, ChangeRows]:
    """The change that sets heads to their part of these values, by block."""
    mine = {layer: [h for at, h in heads if at == layer] for layer in {layer for layer, _ in heads}}

    def change(layer: int, chosen: Sequence[int]) -> ChangeRows:
        def do(z: Tensor, here: slice) -> Tensor:
            split = z.clone().view(len(z), n_heads, -1)
            split[:, list(chosen)] = to[layer].to(z).view(n_heads, -1)[list(chosen)]
            return split.view_as(z)

        return do

    return {Site(layer, "z"): change(layer, chosen) for layer, chosen in mine.items()}
