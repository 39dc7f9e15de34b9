"""Splicing: the models' loss when a crosscoder's reconstruction replaces the residual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.activations.harvest import Harvest, Reading, shared_columns
from interp.activations.store import Store
from interp.activations.texts import Text, read_texts
from interp.crosscoder import Crosscoder
from interp.models.hooks import Site, changing, read_beginning

ARMS = ("spliced", "zero", "error only")
"""The residual replaced by the reconstruction, by nothing, and by mean + (residual - reconstruction)."""


@dataclass(frozen=True)
class Splice:
    """One model's next-token loss and distribution under one arm, over the tokens after edited positions."""

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
    """Run every model of `source` on its texts with the residual replaced at the positions that are kept.

    The crosscoder's slots are the models in their order. The numbers do not show which latents matter, nor what a
    model writes when its residual is replaced while it generates.
    """
    sums = {name: torch.zeros(len(ARMS) + 1, 2, dtype=torch.float64) for name in source.models}
    n = 0
    for readings in source.readings():
        here = int(_followed(readings.written.kept).sum())
        if not here:
            continue
        x = source.rows(readings)
        x_hat = crosscoder.decode(crosscoder.encode(x))
        for slot, (name, model) in enumerate(source.models.items()):
            own, hat, mean = x[:, slot], x_hat[:, slot], crosscoder.mean[slot]
            replaced = {"spliced": hat, "zero": torch.zeros_like(own), "error only": mean + own - hat}
            shared, reading = shared_columns(readings.by_model[name]), readings.by_model[name].to(model.device)
            clean = _log_probabilities(model, reading, shared, lambda h: h, source.site)
            target = _targets(reading)
            sums[name][0, 0] += float(-clean.gather(1, target).double().sum())
            for i, arm in enumerate(ARMS, 1):
                edit = _replace(reading.kept, replaced[arm])
                edited = _log_probabilities(model, reading, shared, edit, source.site)
                sums[name][i, 0] += float(-edited.gather(1, target).double().sum())
                sums[name][i, 1] += float((clean.exp() * (clean - edited)).double().sum())
        n += here
    return {name: _of_sums(total / max(1, n), n) for name, total in sums.items()}


def held_out_texts(store: Store) -> list[Text]:
    """The store's texts of held-out problems that have rows, in their order."""
    numbers = store.index["text"].gather(store.held_out_places().numpy()).unique().sort()
    texts = read_texts(store.folder / "texts.parquet")
    return [texts[i] for i in numbers]


def _followed(kept: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time_minus_one"]:
    """Kept positions whose next position is kept too, so that its token can be predicted from an edited residual."""
    return kept[:, :-1] & kept[:, 1:]


def _targets(reading: Reading) -> Int[Tensor, "rows 1"]:
    return reading.ids[:, 1:][_followed(reading.kept)][:, None]


def _replace(kept: Bool[Tensor, "batch time"], rows: Float[Tensor, "rows d_model"]) -> Callable[[Tensor], Tensor]:
    def edit(h: Tensor) -> Tensor:
        changed = h.clone()
        changed[kept[:, -h.shape[1] :]] = rows.to(h.dtype)
        return changed

    return edit


def _log_probabilities(
    model: PreTrainedModel, reading: Reading, n: int, edit: Callable[[Tensor], Tensor], site: Site
) -> Float[Tensor, "rows vocab"]:
    """Next-token log-probabilities after the kept positions; the first `n` columns are read once for all rows."""
    begun = read_beginning(model, reading.ids[0, :n], len(reading.ids))
    with changing(model, {site: edit}):
        logits = model(input_ids=reading.ids[:, n:], **begun).logits[:, :-1]
    return logits[_followed(reading.kept[:, n:])].float().log_softmax(-1)


def _of_sums(means: Float[Tensor, "arms_and_one 2"], n: int) -> SplicedModel:
    untouched = float(means[0, 0])
    zero = float(means[1 + ARMS.index("zero"), 0])

    def arm(loss: float, kl: float) -> Splice:
        gap = zero - untouched
        return Splice(loss, kl, (zero - loss) / gap if gap > 0 else float("nan"))

    return SplicedModel(untouched, n, {name: arm(*means[i].tolist()) for i, name in enumerate(ARMS, 1)})
