"""The blocks of any decoder architecture, and the numbers by which a config names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interp.errors import InterpError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def decoder_blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The model's blocks: its first module list whose length is the number of hidden layers.

    Raises:
        InterpError: the model has no such list.
    """
    import torch

    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return module
    raise InterpError(
        f"{type(model).__name__}: no list of {depth} decoder blocks found; this architecture is not handled"
    )


def check_layer(layer: int | str, n_layers: int, key: str = "activations.layer") -> int:
    """The number of the block to read; `auto` is the middle one.

    Raises:
        InterpError: the model is not that deep.
    """
    if isinstance(layer, str):
        return n_layers // 2
    if layer >= n_layers:
        raise InterpError(f"{key} = {layer}: the models have blocks 0 to {n_layers - 1}; choose one of them")
    return layer


def patched_layers(layers: Sequence[int] | None, n_layers: int) -> list[int]:
    """The numbers of the blocks to patch, rising; None is all of them.

    Raises:
        InterpError: the model is not that deep.
    """
    chosen = range(n_layers) if layers is None else sorted(set(layers))
    return [check_layer(layer, n_layers, "causal.patch_layers") for layer in chosen]
