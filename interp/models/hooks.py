"""Activations of a decoder at TransformerLens' sites, read and changed with plain forward hooks.

`resid_pre`, `resid_mid` and `resid_post` are the residual before a block, between its attention and its MLP, and after
it; `attn_out` and `mlp_out` are what the two add; `z` is each head's output before the projection, all heads side by
side. A change of `resid_mid` is added to what the attention adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError
from interp.models.sites import decoder_blocks

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedModel

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")
_NORMED = ("post_feedforward_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm")
"""Norms between an output and the residual (Gemma 2, OLMo 2, GLM 4)."""
_ADDS_INSIDE = ("bloom", "mpt")
"""Architectures whose attention and MLP return the sum with the residual."""
_PARALLEL = ("use_parallel_residual", "parallel_attn")
_PROJECTION = ("o_proj", "c_proj", "out_proj", "dense", "wo")


@dataclass(frozen=True, order=True)
class Site:
    """One place in a decoder."""

    layer: int
    name: str = "resid_post"

    def __str__(self) -> str:
        return f"blocks.{self.layer}.{'attn.' if self.name == 'z' else ''}hook_{self.name}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """The site of a TransformerLens name such as `blocks.2.hook_resid_post`."""
        _, layer, *_, name = text.split(".")
        return cls(int(layer), name.removeprefix("hook_"))


Change = Callable[["Tensor"], "Tensor"]


def check_site(model: PreTrainedModel, site: Site) -> None:
    """Refuse a site that the model does not have.

    Raises:
        InterpError: no such layer or name, or a module of it is not found.
    """
    blocks = decoder_blocks(model)
    if not 0 <= site.layer < len(blocks):
        raise InterpError(f"{site}: the model has blocks 0 to {len(blocks) - 1}; choose one of them")
    if site.name not in SITES:
        raise InterpError(f"{site}: no such site; choose one of {', '.join(SITES)}")
    block = blocks[site.layer]
    if site.name in ("attn_out", "resid_mid", "z"):
        attention = _child(block, _ATTENTION, site)
        if site.name == "z":
            _child(attention, _PROJECTION, site)
    if site.name == "mlp_out":
        _child(block, _MLP, site)
    if site.name in ("attn_out", "resid_mid", "mlp_out"):
        _check_sums(model, block, site)


def site_width(model: PreTrainedModel, site: Site) -> int:
    """Width of the activation at a site."""
    config = model.config.get_text_config()
    if site.name != "z":
        return config.hidden_size
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_attention_heads * head


def output_projection(model: PreTrainedModel, site: Site) -> torch.nn.Module:
    """The projection that takes all heads' outputs at a site `z` to what attention adds.

    Raises:
        InterpError: the module is not found.
    """
    return _child(_child(decoder_blocks(model)[site.layer], _ATTENTION, site), _PROJECTION, site)


def _check_sums(model: PreTrainedModel, block: torch.nn.Module, site: Site) -> None:
    """Refuse architectures whose blocks do not add what attention and MLP return, one after the other."""
    config = model.config.get_text_config()
    changed = any(hasattr(block, name) for name in _NORMED) or getattr(config, "residual_multiplier", 1.0) != 1.0
    if changed or config.model_type in _ADDS_INSIDE:
        raise InterpError(
            f"{site}: blocks of {config.model_type} do not add what attention and MLP return; "
            "use resid_pre, resid_post or z"
        )
    norms = sum("norm" in type(child).__name__.lower() for child in block.children())
    if site.name == "resid_mid" and (norms < 2 or any(getattr(config, name, False) for name in _PARALLEL)):
        raise InterpError(f"{site}: attention and MLP of this architecture run side by side; use resid_post")


def _child(module: torch.nn.Module, names: tuple[str, ...], site: Site) -> torch.nn.Module:
    for name in names:
        if (found := dict(module.named_children()).get(name)) is not None:
            return found
    raise InterpError(
        f"{site}: {type(module).__name__} has none of {', '.join(names)}; this architecture is not handled"
    )


def block_outputs(model: PreTrainedModel, **inputs: Any) -> list[Any]:
    """What each block returns, for `replaying`."""
    returned: list[Any] = []
    with ExitStack() as stack:
        for block in decoder_blocks(model):
            stack.callback(block.register_forward_hook(lambda *ran: returned.append(ran[-1])).remove)
        model(**inputs)
    return returned


@contextmanager
def replaying(model: PreTrainedModel, returned: Sequence[Any]) -> Iterator[None]:
    """Context in which the first `len(returned)` blocks do not run and return these."""
    with ExitStack() as stack:
        for block, output in zip(decoder_blocks(model), returned, strict=False):
            stack.enter_context(_forward(block, output))
        yield


@contextmanager
def _forward(block: torch.nn.Module, output: Any) -> Iterator[None]:
    own = vars(block).get("forward")  # a wrapper, such as that of weights on several devices
    block.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


@contextmanager
def changing(model: PreTrainedModel, changes: Mapping[Site, Change]) -> Iterator[None]:
    """Context in which each site's activation [batch, time, width] is replaced by a function of it."""
    with ExitStack() as stack:
        # `resid_mid` must see what a change of `resid_pre` leaves: hooks of one module run in the order they came.
        for site, change in sorted(changes.items(), key=lambda item: item[0].name != "resid_pre"):
            for handle in _register(model, site, change):
                stack.callback(handle.remove)
        yield


def _register(model: PreTrainedModel, site: Site, change: Change) -> Iterator[Any]:
    block = decoder_blocks(model)[site.layer]
    match site.name:
        case "resid_post":
            yield block.register_forward_hook(_output(change))
        case "resid_pre":
            yield block.register_forward_pre_hook(_input(change), with_kwargs=True)
        case "attn_out":
            yield _child(block, _ATTENTION, site).register_forward_hook(_output(change))
        case "mlp_out":
            yield _child(block, _MLP, site).register_forward_hook(_output(change))
        case "z":
            yield output_projection(model, site).register_forward_pre_hook(_input(change), with_kwargs=True)
        case "resid_mid":
            before: list[Tensor] = []
            yield block.register_forward_pre_hook(_input(lambda h: _remember(before, h)), with_kwargs=True)

            def of_attention(added: Tensor) -> Tensor:
                middle = before[-1] + added
                new = change(middle)
                return added if new is middle else added + (new - middle)

            yield _child(block, _ATTENTION, site).register_forward_hook(_output(of_attention))


def _remember(seen: list[Tensor], h: Tensor) -> Tensor:
    seen[:] = [h]
    return h


def _output(change: Change) -> Callable[..., Any]:
    def hook(_module: Any, _args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook


def _input(change: Change) -> Callable[..., Any]:
    def hook(_module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    return hook


def read_beginning(
    model: PreTrainedModel, ids: Int[Tensor, " time"], rows: int, site: Site | None = None
) -> dict[str, Any]:
    """Inputs of a forward that continues `rows` texts after their shared beginning `ids`, which is read here once, by
    the blocks up to `site`'s or by all. A forward adds to the cache, so they can be used once. Where `ids` is empty
    they hold no cache."""
    from transformers import DynamicCache

    if len(ids) == 0:
        return {"use_cache": False}
    inputs = {"past_key_values": DynamicCache(config=model.config), "use_cache": True}
    if site is None:
        model(input_ids=ids[None], logits_to_keep=1, **inputs)
    else:
        read_sites(model, (Site(site.layer),), input_ids=ids[None], **inputs)
    inputs["past_key_values"].batch_repeat_interleave(rows)
    return inputs


class _EnoughError(Exception):
    """Raised to stop a forward after the last block that is read."""


def read_sites(model: PreTrainedModel, sites: tuple[Site, ...], **inputs: Any) -> dict[Site, Tensor]:
    """The activations [batch, time, width] of some sites; blocks after the last of them do not run."""
    seen: dict[Site, Tensor] = {}

    def keep(site: Site) -> Change:
        def change(h: Tensor) -> Tensor:
            seen[site] = h
            return h

        return change

    def stop(_: Tensor) -> Tensor:
        raise _EnoughError

    last = Site(max(site.layer for site in sites))
    changes = {site: keep(site) for site in sites}
    kept = changes.pop(last, None)

    def end(h: Tensor) -> Tensor:
        if kept is not None:
            kept(h)
        return stop(h)

    # The body, without the unembedding, where the model has one of its own.
    with suppress(_EnoughError), changing(model, changes | {last: end}):
        getattr(model, "model", model)(**inputs)
    return seen
