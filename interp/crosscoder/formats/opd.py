"""Format 8: understanding-opd-crosscoders, whose models may have different widths; equal ones can be read.

Each model is centred by `mean_i` and multiplied by `scale_i`, unless a mean is NaN; `std_i` and `target_rms` are what
the scale was made of, and are not used again. The gates are those of format 1.
"""

from __future__ import annotations

import re

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.gating import BY_CROSSCODER_NORM, batch_topk_gate
from interp.crosscoder.formats.parts import Gate, Loaded, check, loaded, refuse_scales
from interp.crosscoder.formats.weights import Config, Weights, find_config
from interp.errors import InterpError

CONFIG = "config.json"
_PROJECTION = re.compile(r"(?:en|de)coder\.projections\.(\d{1,9})\.")
_WEIGHT = re.compile(r"encoder\.projections\.\d+\.weight")
_OPTIONAL = {
    "activation_dims_tensor": "n",
    "code_normalization_id": "",
    "normalizer.target_rms": "",
    "target_rms": "",
    "k": "",
    "threshold": "",
}


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The crosscoder in a file of this format.

    Raises:
        InterpError: see `formats.read`; also models of different widths.
    """
    t = weights.tensors
    n = _n_models(weights)
    widths = [tensor.shape[-1] for name, tensor in t.items() if _WEIGHT.fullmatch(name) and tensor.ndim]
    if len(set(widths)) > 1:
        raise InterpError(f"{weights.path}: the models have widths {widths}; our crosscoder needs one width for all")
    required = {"encoder.bias": "L"}
    normaliser = {}
    for i in range(n):
        required |= {f"encoder.projections.{i}.weight": "L d"}
        required |= {f"decoder.projections.{i}.weight": "d L", f"decoder.projections.{i}.bias": "d"}
        normaliser |= {f"normalizer.mean_{i}": "d", f"normalizer.std_{i}": "d", f"normalizer.scale_{i}": ""}
    check(weights, required | normaliser, _OPTIONAL, unchecked=tuple(normaliser))
    refuse_scales(weights, scales)
    W_dec = _stack(weights, "decoder.projections.{}.weight", n).permute(2, 0, 1)
    mean, scale = _normalisation(weights, n)
    return loaded(
        weights.path,
        _gate(weights, W_dec),
        W_enc=_stack(weights, "encoder.projections.{}.weight", n).transpose(1, 2),
        W_dec=W_dec,
        b_enc=t["encoder.bias"],
        b_dec=_stack(weights, "decoder.projections.{}.bias", n),
        mean=mean,
        scale=scale,
    )


def _n_models(weights: Weights) -> int:
    """One more than the highest number in a projection's name, and no more than there are tensors."""
    found = (_PROJECTION.match(name) for name in weights.tensors)
    return min(len(weights.tensors), 1 + max(int(match[1]) for match in found if match))


def _stack(weights: Weights, name: str, n: int) -> Float[Tensor, "models ..."]:
    return torch.stack([weights.tensors[name.format(i)] for i in range(n)])


def _gate(weights: Weights, W_dec: Float[Tensor, "latents models d_model"]) -> Gate:
    t = weights.tensors
    if "threshold" not in t:
        return Gate("relu")
    config = find_config(weights, CONFIG)
    if config and isinstance(trainer := config.values.get("trainer"), dict):
        config = Config(config.path, trainer)
    norm_id = int(t.get("code_normalization_id", torch.tensor(BY_CROSSCODER_NORM)))
    return batch_topk_gate(weights.path, norm_id, W_dec, t["threshold"], int(t["k"]) if "k" in t else None, config)


def _normalisation(
    weights: Weights, n: int
) -> tuple[Float[Tensor, "models d_model"] | None, Float[Tensor, "models 1"] | None]:
    mean, scale = _stack(weights, "normalizer.mean_{}", n), _stack(weights, "normalizer.scale_{}", n)
    if mean.isnan().all():
        return None, None
    if not (mean.isfinite().all() and scale.isfinite().all()):
        raise InterpError(f"{weights.path}: a normalizer holds NaN or infinite values beside others; it is damaged")
    return mean, scale[:, None]
