"""What the models lose when a crosscoder's reconstruction takes the residual's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.activations.harvest import Harvest, shared_columns
from interp.crosscoder import Crosscoder
from interp.models.sites import editing, read_beginning

ARMS = ("spliced", "zero", "error only")
"""The residual replaced by the reconstruction, by nothing, and by mean + (residual - reconstruction)."""


@dataclass(frozen=True)
class Splice:
    """What one model's next-token loss and distribution do under one arm, over the tokens after edited positions."""

    loss: float
    """Cross-entropy, nats a token."""
    kl: float
    """KL(untouched ‖ edited), nats a token: 0 is unchanged."""
    loss_recovered: float
    """(loss under zero - this loss) / (loss under zero - untouched loss): 1 is all, 0 no better than zero ablation."""


@dataclass(frozen=True)
class SplicedModel:
    """One model under every arm."""

    untouched_loss: float
    n_tokens: int
    arms: Mapping[str, Splice]


@torch.inference_mode()
def splice(crosscoder: Crosscoder, source: Harvest) -> dict[str, SplicedModel]:
    """Run every model of `source` on its texts with the residual replaced, at the positions that are kept.

    The crosscoder's slots are the models in their order. It does not say which latents matter, nor what happens when a
    model writes its own text.
    """
    sums = {name: torch.zeros(len(ARMS) + 1, 2, dtype=torch.float64) for name in source.models}
    n = 0
    for _, ids, kept in source.tokens():
        if not _followed(kept).any():
            continue
        x = source.rows(ids, kept)
        x_hat = crosscoder.decode(crosscoder.encode(x))
        for slot, (name, model) in enumerate(source.models.items()):
            own, hat, mean = x[:, slot], x_hat[:, slot], crosscoder.mean[slot]
            replaced = {"spliced": hat, "zero": torch.zeros_like(own), "error only": mean + own - hat}
            clean = _log_probabilities(model, ids, kept, lambda h: h, source.layer)
            target = _targets(ids, kept)
            sums[name][0, 0] += float(-clean.gather(1, target).double().sum())
            for i, arm in enumerate(ARMS, 1):
                edited = _log_probabilities(model, ids, kept, _replace(kept, replaced[arm]), source.layer)
                sums[name][i, 0] += float(-edited.gather(1, target).double().sum())
                sums[name][i, 1] += float((clean.exp() * (clean - edited)).double().sum())
        n += int(_followed(kept).sum())
    return {name: _of_sums(total / max(1, n), n) for name, total in sums.items()}


def _followed(kept: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time_minus_one"]:
    """Kept positions whose next position is kept too, so that its token is text to be predicted."""
    return kept[:, :-1] & kept[:, 1:]


def _targets(ids: Int[Tensor, "batch time"], kept: Bool[Tensor, "batch time"]) -> Int[Tensor, "rows 1"]:
    return ids[:, 1:][_followed(kept)][:, None]


def _replace(kept: Bool[Tensor, "batch time"], rows: Float[Tensor, "rows d_model"]) -> Callable[[Tensor], Tensor]:
    def edit(h: Tensor) -> Tensor:
        changed = h.clone()
        changed[kept[:, -h.shape[1] :]] = rows.to(h.dtype)
        return changed

    return edit


def _log_probabilities(
    model: PreTrainedModel,
    ids: Int[Tensor, "batch time"],
    kept: Bool[Tensor, "batch time"],
    edit: Callable[[Tensor], Tensor],
    layer: int,
) -> Float[Tensor, "rows vocab"]:
    n = shared_columns(ids, kept)
    begun = read_beginning(model, ids[0, :n], len(ids))
    with editing(model, layer, edit):
        logits = model(input_ids=ids[:, n:], **begun).logits[:, :-1]
    return logits[_followed(kept[:, n:])].float().log_softmax(-1)


def _of_sums(means: Float[Tensor, "arms_and_one 2"], n: int) -> SplicedModel:
    untouched = float(means[0, 0])
    zero = float(means[1 + ARMS.index("zero"), 0])

    def arm(loss: float, kl: float) -> Splice:
        gap = zero - untouched
        return Splice(loss, kl, (zero - loss) / gap if gap > 0 else float("nan"))

    return SplicedModel(untouched, n, {name: arm(*means[i].tolist()) for i, name in enumerate(ARMS, 1)})
