"""Format 7: crosscode's crosscoders over models and hooks, flattened to one slot per pair, models first.

Its input is scaled by a factor a slot. Where `is_folded` is true the weights include the factors; where it is false the
file's factors are 0, because it saves them only when folding, and they must be given. Where fewer than k activations
are positive its topk keeps negative ones, and ours none.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.parts import Gate, Loaded, check, loaded, need_scales, refuse_scales
from interp.crosscoder.formats.weights import Config, Weights, need_config
from interp.errors import InterpError

_FACTORS_IN, _FACTORS_OUT = "folded_scaling_factors_in_Xi", "folded_scaling_factors_out_Xo"
_THRESHOLDS = ("_activation_fn.log_threshold_L", "activation_fn.log_threshold_L")


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The crosscoder in a file of this format.

    Raises:
        InterpError: see `formats.read`; also a transcoder, and activations whose choice depends on the batch.
    """
    t = weights.tensors
    config = need_config(weights, f"{weights.path.stem}_cfg.yaml", "model_cfg.yaml")
    axes = t["_W_enc_XiDiL"].ndim - 2
    if axes < 1:
        raise InterpError(
            f"{weights.path}: has no axis of models, so it is a transcoder or one model's; name a crosscoder"
        )
    slots = " ".join(f"x{i}" for i in range(axes))
    required = {"_W_enc_XiDiL": f"{slots} d L", "_W_dec_LXoDo": f"L {slots} d", "is_folded": ""}
    factors = {_FACTORS_IN: slots, _FACTORS_OUT: slots}
    check(weights, required | factors, {"b_enc_L": "L", "_b_dec_XoDo": f"{slots} d"} | dict.fromkeys(_THRESHOLDS, "L"))
    W_enc, W_dec = t["_W_enc_XiDiL"].flatten(0, axes - 1), t["_W_dec_LXoDo"].flatten(1, axes)
    m, d, n = W_enc.shape
    return loaded(
        weights.path,
        _gate(weights, config, W_dec),
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=t.get("b_enc_L", torch.zeros(n)),
        b_dec=t.get("_b_dec_XoDo", torch.zeros(m, d)).reshape(m, d),
        scale=_scale(weights, scales, m),
    )


def _gate(weights: Weights, config: Config, W_dec: Float[Tensor, "latents models d_model"]) -> Gate:
    function = config.values.get("activation_fn")
    name = function.get("classname") if isinstance(function, dict) else None
    log_threshold = next((weights.tensors[key] for key in _THRESHOLDS if key in weights.tensors), None)
    if log_threshold is not None:
        return Gate("jumprelu", log_threshold=log_threshold)
    if name == "ReLUActivation":
        return Gate("relu")
    if name == "TopkActivation" and isinstance(function, dict):
        check_ranking(weights.path, "crosscode", W_dec.norm(dim=2).sum(1))
        inner = function.get("cfg")
        return Gate("topk", k=Config(config.path, inner if isinstance(inner, dict) else {}).count("k"))
    raise InterpError(
        f"{config.path}: activation_fn {name} cannot be read; ReLUActivation, TopkActivation and those with"
        " log_threshold_L can, and the others' choice depends on the batch"
    )


def _scale(weights: Weights, scales: tuple[float, ...] | None, n_slots: int) -> Float[Tensor, "slots 1"] | None:
    given, out = (weights.tensors[name].flatten() for name in (_FACTORS_IN, _FACTORS_OUT))
    if weights.tensors["is_folded"]:
        refuse_scales(weights, scales)
        return None
    if not given.any():
        return need_scales(weights, scales, n_slots)[:, None]
    refuse_scales(weights, scales)
    if not torch.equal(given, out):
        raise InterpError(f"{weights.path}: factors of input and output differ; fold them in crosscode before saving")
    return given[:, None]
