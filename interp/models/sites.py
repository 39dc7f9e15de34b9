"""The residual after a decoder block, read and edited with plain forward hooks, in any decoder architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor
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


def check_layer(layer: int | None, n_layers: int, key: str = "activations.layer") -> int:
    """The number of the block to read; None is the middle one.

    Raises:
        InterpError: the model is not that deep.
    """
    if layer is None:
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


def read_beginning(
    model: PreTrainedModel, ids: Int[Tensor, " time"], rows: int, layer: int | None = None
) -> dict[str, Any]:
    """Inputs of a forward that continues `rows` texts after their shared beginning `ids`, which is read here once, by
    the blocks up to `layer` or by all. A forward adds to the cache, so they can be used once. Where `ids` is empty they
    hold no cache."""
    from transformers import DynamicCache

    if len(ids) == 0:
        return {"use_cache": False}
    inputs = {"past_key_values": DynamicCache(config=model.config), "use_cache": True}
    if layer is None:
        model(input_ids=ids[None], logits_to_keep=1, **inputs)
    else:
        read_residual(model, layer, input_ids=ids[None], **inputs)
    inputs["past_key_values"].batch_repeat_interleave(rows)
    return inputs


class _EnoughError(Exception):
    """Raised to stop a forward after the block that was to be read."""


@contextmanager
def editing(model: PreTrainedModel, layer: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Context in which `blocks.{layer}.hook_resid_post` is replaced by `edit` of it."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        return edit(output)

    handle = decoder_blocks(model)[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def read_residual(model: PreTrainedModel, layer: int, **inputs: Any) -> Tensor:
    """`blocks.{layer}.hook_resid_post` [batch, time, d_model]; later blocks do not run."""
    seen: list[Tensor] = []

    def keep(residual: Tensor) -> Tensor:
        seen.append(residual)
        raise _EnoughError

    # The body, without the unembedding, where the model has one of its own.
    with suppress(_EnoughError), editing(model, layer, keep):
        getattr(model, "model", model)(**inputs)
    return seen[0]
