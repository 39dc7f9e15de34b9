"""A decision that is linear in the residual, so that every attribution and effect is known by hand."""

import torch

from interp.crosscoder import Crosscoder, CrosscoderConfig
from interp.features.attribution import Decision, Side
from interp.features.margin import Margin
from interp.models.hooks import Site
from interp.models.prefixes import Prefixes

SITE, SLOT, D = Site(1, "resid_mid"), 1, 40
"""A residual as wide as there are latents, each of which has its own coordinate."""


class Linear(Prefixes):
    """Stands for `Prefixes`: the next token's logits are (0, w·h + bias, at most `cap`, aside·h), the last of a token
    on neither side."""

    def __init__(self, h, weights, bias=0.0, aside=None, cap=None):
        self.h, self.weights, self.bias, self.aside, self.cap = h, weights, bias, aside, cap

    def logits(self, changes=None):
        h = self.h
        for site, change in (changes or {}).items():
            assert site == SITE
            h = change(h, slice(0, len(h)))
        margin = (h @ self.weights + self.bias).clamp(max=self.cap if self.cap is not None else torch.inf)
        third = [] if self.aside is None else [h @ self.aside]
        return torch.stack([torch.zeros_like(margin), margin, *third], dim=1)


def linear_decision(f_positive, f_negative, weights, scale=2.0, bias=0.0, aside=None, cap=None):
    """Latent j writes f_j / `scale` to coordinate j of the subject's residual, which the margin weighs with
    `weights[j]`."""
    cc = Crosscoder(CrosscoderConfig(n_models=3, d_model=D, n_latents=D, k=4), 0).requires_grad_(False)
    cc.W_dec.zero_()
    cc.W_dec[:, SLOT] = torch.eye(D)
    cc.W_dec[:, 0] = 7.0  # another model's decoders, which must play no part
    cc.scale.fill_(scale)
    sides = []
    for f in (f_positive, f_negative):
        h = f / scale + 0.25  # what the dictionary does not hold is kept
        sides.append(Side(Linear(h, weights, bias, aside, cap), h, f))
    return Decision(cc, SITE, SLOT, Margin((1,), (0,), 1.0, 1.0), *sides)
