"""Formats 2 and 3: one stack of weights a model (ckkissane) or a layer (NeelNanda), relu, inputs scaled before.

Their input is each slot's residual times sqrt(d_model) / mean |x|, measured in training and not published with the
weights; the beginning-of-sequence position was left out.
"""

from __future__ import annotations

from interp.crosscoder.formats.checks import check, need_scales
from interp.crosscoder.formats.parts import Gate, Parts
from interp.crosscoder.formats.weights import Weights


def read(weights: Weights, scales: tuple[float, ...] | None) -> Parts:
    """The parts of a crosscoder in this format.

    Raises:
        InterpError: see `formats.read`.
    """
    sizes = check(weights, {"W_enc": "n d L", "W_dec": "L n d", "b_enc": "L", "b_dec": "n d"})
    t = weights.tensors
    scale = need_scales(weights, scales, sizes["n"])
    return Parts(t["W_enc"], t["W_dec"], t["b_enc"], t["b_dec"], Gate("relu"), scale=scale[:, None])
