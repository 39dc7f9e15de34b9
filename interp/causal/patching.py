"""Activation patching between the runs of counterfactual pairs, by component, on a TransformerBridge.

Noising puts the corrupt run's activations into the clean run (necessity), denoising the clean run's into the corrupt
one (sufficiency). They are not mirror images. A patch says what a site carries at these positions on these pairs; it
does not say what the model does when it is free to write something else.

Up to the first marker the two runs of a pair are the same and nothing is patched: that part is read once, and every
run continues from the attention's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.causal.pairs import Pair
from interp.errors import InterpError
from interp.models.hooks import Site

ROWS = 512
"""Most rows of a forward that patches several places at once."""
BYTES = 2 * 10**9
"""Most bytes of a forward's logits in fp32."""


@dataclass(frozen=True, order=True)
class Component:
    """One site of one block, or one head of the site `z`."""

    site: Site
    head: int | None = None

    @property
    def hook(self) -> str:
        """TransformerLens' name of its activation."""
        return str(self.site)


@dataclass(frozen=True)
class Beginning:
    """The positions before the first difference of any pair."""

    length: int
    """Tokens."""
    cache: Any
    """The attention's cache; None where the length is 0."""

    def followed(self, times: int = 1) -> dict[str, Any]:
        """Arguments of a forward that continues from here, every row `times` times. It writes to the cache, so it gets
        a copy."""
        if self.cache is None:
            return {}
        cache = deepcopy(self.cache)
        if times > 1:
            cache.batch_repeat_interleave(times)
        return {"past_key_values": cache, "use_cache": True}


@dataclass(frozen=True)
class Side:
    """One run of all pairs from the end of their beginning: token ids, every kept activation by hook, the metric."""

    beginning: Beginning
    ids: Int[Tensor, "pairs time"]
    cache: dict[str, Float[Tensor, "pairs time *width"]]
    metric: Float[np.ndarray, " pairs"]


def open_bridge(path: str, model: Any, tokenizer: Any) -> Any:
    """A TransformerBridge around a model of its own: it changes the model it is given.

    Raises:
        InterpError: the bridge cannot wrap this architecture, or its logits differ from the model's.
    """
    from transformer_lens.model_bridge import TransformerBridge

    probe = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        expected = model(input_ids=probe).logits.float()
    try:
        bridge = TransformerBridge.boot_transformers(path, hf_model=model, tokenizer=tokenizer, device=model.device)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise InterpError(f"{path}: TransformerBridge cannot wrap this architecture ({error})") from error
    with torch.inference_mode():
        difference = float((bridge(probe, return_type="logits").float() - expected).abs().max())
    tolerance = 1e-3 * max(1.0, float(expected.abs().max()))
    if difference > tolerance:
        raise InterpError(f"{path}: hooked logits differ from the model's by {difference:.2g}; patching would mislead")
    return bridge


def read_beginning(bridge: Any, pairs: Sequence[Pair]) -> Beginning:
    """Read all pairs up to where the first of them differs."""
    length = min(min(p.changed) for p in pairs)
    if length == 0:
        return Beginning(0, None)
    ids = stacked(pairs, corrupt=False)[:, :length].to(bridge.cfg.device)
    with torch.inference_mode():
        return Beginning(length, bridge(ids, return_type="logits_and_cache", use_cache=True)[1])


def run_side(
    bridge: Any, pairs: Sequence[Pair], beginning: Beginning, corrupt: bool, components: Sequence[Component]
) -> Side:
    """Run all clean or all corrupt sequences from the end of their beginning, and keep the components' activations.

    Raises:
        InterpError: the model has no such site.
    """
    ids = stacked(pairs, corrupt)[:, beginning.length :].to(bridge.cfg.device)
    names = {component.hook for component in components}
    with torch.inference_mode():
        logits, cache = bridge.run_with_cache(
            ids, return_type="logits", names_filter=lambda name: name in names, **beginning.followed()
        )
    if missing := sorted(names - set(cache.keys())):
        raise InterpError(f"causal.patch_sites: {missing[0]}: this architecture has no such site; leave it out")
    return Side(beginning, ids, {name: cache[name].clone() for name in names}, log_probability(logits, pairs))


def stacked(pairs: Sequence[Pair], corrupt: bool) -> Int[Tensor, "pairs time"]:
    """Sequences padded on the right; under causal attention no measured position sees the padding."""
    rows = [p.corrupt if corrupt else p.clean for p in pairs]
    width = max(map(len, rows))
    return torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows])


def log_probability(logits: Float[Tensor, "pairs time vocab"], pairs: Sequence[Pair]) -> Float[np.ndarray, " pairs"]:
    """Log-probability (nats, summed) of each pair's continuation, which both sequences share; the logits are of the
    last positions, as many as are given."""
    ids = stacked(pairs, corrupt=False).to(logits.device)
    first = ids.shape[1] - logits.shape[1]
    ids = ids[:, first:]
    logp = logits.float().log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    at = torch.arange(1, ids.shape[1], device=ids.device)[None] + first
    start = torch.tensor([p.start for p in pairs], device=ids.device)[:, None]
    end = torch.tensor([len(p.clean) for p in pairs], device=ids.device)[:, None]
    return torch.where((at >= start) & (at < end), logp, 0.0).sum(1).cpu().double().numpy()


def positions_mask(positions: Sequence[Sequence[int]], side: Side) -> Bool[Tensor, "pairs time"]:
    """Where to patch each pair, given positions in the whole sequence."""
    mask = torch.zeros_like(side.ids, dtype=torch.bool)
    for i, chosen in enumerate(positions):
        mask[i, [position - side.beginning.length for position in chosen]] = True
    return mask


def rows_together(width: int, vocab: int) -> int:
    """Rows of one forward over `width` positions whose logits stay below BYTES; at least one."""
    return max(1, min(ROWS, BYTES // (4 * vocab * width)))


def patch(
    bridge: Any,
    into: Side,
    source: Side,
    component: Component,
    where: Sequence[Bool[Tensor, "pairs time"]],
    pairs: Sequence[Pair],
) -> Float[np.ndarray, "places pairs"]:
    """The metric of the run `into` with the activation of `source` at one component, once for each of the places
    `where`; several are run in one forward."""
    together = max(1, rows_together(into.ids.shape[1], bridge.cfg.d_vocab) // len(pairs))
    found = [
        _patch(bridge, into, source, component, torch.stack(list(where[i : i + together]), dim=1), pairs)
        for i in range(0, len(where), together)
    ]
    return np.concatenate(found)


def _patch(
    bridge: Any,
    into: Side,
    source: Side,
    component: Component,
    where: Bool[Tensor, "pairs places time"],
    pairs: Sequence[Pair],
) -> Float[np.ndarray, "places pairs"]:
    places = where.shape[1]
    mask = where.flatten(0, 1)[..., None]

    def swap(value: Tensor, hook: Any) -> Tensor:
        other = source.cache[component.hook].repeat_interleave(places, dim=0)
        if component.head is None:
            return torch.where(mask.reshape(*mask.shape[:2], *[1] * (value.ndim - 2)), other, value)
        changed = value.clone()
        changed[:, :, component.head] = torch.where(mask, other[:, :, component.head], value[:, :, component.head])
        return changed

    with torch.inference_mode():
        logits = bridge.run_with_hooks(
            into.ids.repeat_interleave(places, dim=0),
            return_type="logits",
            fwd_hooks=[(component.hook, swap)],
            **into.beginning.followed(places),
        )
    repeated = [pair for pair in pairs for _ in range(places)]
    return log_probability(logits, repeated).reshape(len(pairs), places).T


def random_positions(pairs: Sequence[Pair], rng: np.random.Generator) -> list[list[int]]:
    """For each pair as many positions as its marker has, drawn from those between the marker and the last token.

    Before the marker the two runs are equal: a patch there changes nothing and would be no control.
    """
    chosen = []
    for pair in pairs:
        after = np.arange(pair.start, len(pair.clean) - 1)
        chosen.append(rng.choice(after, size=min(len(pair.changed), len(after)), replace=False).tolist())
    return chosen
