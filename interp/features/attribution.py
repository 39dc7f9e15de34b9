"""Which latents move a decision: integrated gradients to rank all of them, exact ablation to confirm the best.

Everything here is teacher-forced: prefixes are read up to the place of decision, and one position is edited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder import Crosscoder
from interp.features.contrasts import Contrast
from interp.features.margin import Margin, PairMargin
from interp.features.matched import as_long
from interp.models.hooks import Site
from interp.models.prefixes import ROWS, ChangeRows, Prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEPS = 10
"""Points of the path along which gradients are averaged."""


@dataclass(frozen=True)
class Side:
    """One side of a contrast at the place of decision: the subject's prefixes, and the crosscoder's code there."""

    prefixes: Prefixes
    h: Float[Tensor, "rows d_model"]
    """The subject's activations at the site."""
    f: Float[Tensor, "rows latents"]
    x: Float[Tensor, "rows models d_model"] | None = None
    """All the crosscoder's models' activations, from which another dictionary's code can be taken."""

    def rate(self) -> Float[np.ndarray, " latents"]:
        """How often each latent fires."""
        return (self.f > 0).double().mean(0).cpu().numpy()

    def size(
        self, decoder: Float[Tensor, "latents d_model"], level: Float[Tensor, " latents"] | float = 0.0
    ) -> Float[np.ndarray, " latents"]:
        """Mean of |f - level|·‖d‖ of each latent: how far setting it to this level moves the residual."""
        return ((self.f - level).abs().mean(0) * decoder.norm(dim=1)).detach().double().cpu().numpy()


@dataclass(frozen=True)
class Decision:
    """A contrast as a crosscoder sees it. Edits are of the subject alone, and keep the crosscoder's error."""

    crosscoder: Crosscoder
    site: Site
    slot: int
    """The subject's number among the crosscoder's models."""
    margin: Margin | PairMargin
    positive: Side
    negative: Side

    def rate(self) -> Float[np.ndarray, " latents"]:
        """How often each latent fires, over both sides."""
        return (self.positive.rate() + self.negative.rate()) / 2

    @cached_property
    def level(self) -> Float[Tensor, " latents"]:
        """Each latent's mean on the negative side: what it is set back to."""
        return self.negative.f.mean(0)

    @cached_property
    def decoder(self) -> Float[Tensor, "latents d_model"]:
        """The subject's decoders in input units."""
        return self.crosscoder.decoder_in_input_units()[:, self.slot]

    @torch.no_grad()
    def read_with(self, crosscoder: Crosscoder) -> Decision:
        """The same prefixes as another dictionary of the same models and site reads them.

        Raises:
            ValueError: the models' activations were not kept.
        """
        sides = []
        for side in (self.positive, self.negative):
            if side.x is None:
                raise ValueError("the sides hold no activations of the crosscoder's models; read them with `decide`")
            f = crosscoder.encode(side.x.float().to(crosscoder.mean.device))
            sides.append(replace(side, f=f))
        return replace(self, crosscoder=crosscoder, positive=sides[0], negative=sides[1])

    def directions(self, latents: Sequence[int], along: Sequence[int] | None = None) -> Float[Tensor, "chosen d_model"]:
        """The subject's decoders of these latents, or those of others at their lengths."""
        own = self.decoder[list(latents)]
        return own if along is None else as_long(self.decoder[list(along)], own)

    def change(
        self, side: Side, df: Float[Tensor, "rows chosen"], latents: Sequence[int], along: Sequence[int] | None = None
    ) -> ChangeRows:
        """h + Σ df · d over the chosen latents."""
        added = (df @ self.directions(latents, along)).detach()
        return lambda h, here: h + added[here].to(h.dtype)

    @torch.no_grad()
    def logits(
        self,
        side: Side,
        latents: Sequence[int] = (),
        to: Float[Tensor, " chosen"] | None = None,
        along: Sequence[int] | None = None,
    ) -> Float[Tensor, "rows vocab"]:
        """Logits of the next token with these latents set to zero, or to the given values; `along`: the change is
        written along the decoders of other latents, as far."""
        if not len(latents):
            return side.prefixes.logits()
        df = -side.f[:, list(latents)] if to is None else to - side.f[:, list(latents)]
        return side.prefixes.logits({self.site: self.change(side, df, latents, along)})


@torch.no_grad()
def decide(
    models: Mapping[str, PreTrainedModel],
    subject: str,
    crosscoder: Crosscoder,
    site: Site,
    contrast: Contrast,
    pad_id: int,
    batch_size: int = ROWS,
) -> Decision:
    """Read both sides of a contrast in all the crosscoder's models, `models` in its order.

    Raises:
        ValueError: the contrast has no margin.
    """
    if contrast.margin is None:
        raise ValueError(f"{contrast.name}: no token tells its sides apart")
    sides = []
    for name in ("positive", "negative"):
        rows = [getattr(pair, name) for pair in contrast.pairs]
        own, h = Prefixes(models[subject], rows, pad_id, batch_size), {}
        for model in models:  # one at a time: of the others nothing is kept but their activations
            prefixes = own if model == subject else Prefixes(models[model], rows, pad_id, batch_size)
            h[model] = prefixes.read([site])[site]
        x = torch.stack(list(h.values()), dim=1)
        sides.append(Side(own, h[subject], crosscoder.encode(x.float().to(crosscoder.mean.device)), x))
    return Decision(crosscoder, site, list(models).index(subject), contrast.margin, *sides)


def integrated_gradients(
    decision: Decision, steps: int = STEPS, *, from_zero: bool = False
) -> Float[Tensor, " latents"]:
    """Share of each latent in the margin of the positive side, in nats, averaged over the pairs; positive ones push
    towards the behaviour.

    a_j = (f_j - f'_j) ⟨d_j, ∫ ∇_h M dα⟩ along the straight path from a code f' to the positive side's code f at the
    positive side's prefix, the error being kept (Sundararajan et al. 2017, midpoint rule). f' is the negative side's
    code, or no latent at all if `from_zero`: the first divides the contrast of the two sides among the latents, the
    second foretells ablation. The sum over latents is M(f) - M(f') but for the rule's error; what the crosscoder's
    error carries is in neither.
    """
    side = decision.positive
    difference = side.f if from_zero else side.f - decision.negative.f
    step_back = (difference @ decision.decoder).detach()
    total = torch.zeros_like(side.h, dtype=torch.float32)
    for i in range(steps):
        at = (i + 0.5) / steps
        h = (side.h.float() - (1 - at) * step_back).requires_grad_()
        with torch.enable_grad():
            logits = side.prefixes.logits({decision.site: lambda _, here, h=h: h[here]})
            (gradient,) = torch.autograd.grad(decision.margin.of(logits).sum(), h)
        total += gradient / steps
    return (difference * (total @ decision.decoder.T)).mean(0).detach()


def exact_effects(decision: Decision, latents: Sequence[int]) -> Float[Tensor, " chosen"]:
    """How far the mean margin of the positive side falls, in nats, when each latent alone is set back to its mean on
    the negative side.

    Not to zero: a latent that is active on both sides alike says what kind of place this is and not which of the two;
    without it the model is lost at both, which would pass for a large effect.
    """
    level = decision.level
    untouched = decision.margin.of(decision.logits(decision.positive)).mean()
    left = [decision.margin.of(decision.logits(decision.positive, [j], level[[j]])).mean() for j in latents]
    return untouched - torch.stack(left) if left else torch.empty(0)
