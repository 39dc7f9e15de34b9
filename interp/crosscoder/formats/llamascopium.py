"""Format 6: llamascopium's crosscoders.

The models' pre-activations, each with a bias of its own, are summed, which makes one bias of them. Model m's code is
act(pre * |W_D[m]|) / |W_D[m]|: with relu the same for all models, with a threshold or a choice of k only where the
decoder norms make it so. The input of `norm_activation` dataset-wise is scaled by sqrt(d_model) / the hook's mean norm,
which is saved with the weights; `inference` says that this is folded in.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.gating import one_for_all_models
from interp.crosscoder.formats.parts import Gate, Loaded, check, loaded, need_scales, refuse_scales
from interp.crosscoder.formats.weights import Config, Weights, need_config
from interp.errors import InterpError

CONFIG = "config.json"
_REQUIRED = {"W_E": "n d L", "b_E": "n L", "W_D": "n L d", "b_D": "n d"}
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_MEAN_NORM = "dataset_average_activation_norm."


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The crosscoder in a file of this format.

    Raises:
        InterpError: see `formats.read`; also a gate that gives the models different codes, batchtopk, whose choice
            depends on the batch, and a normalisation by token or batch.
    """
    t = weights.tensors
    config = need_config(weights, CONFIG)
    if (kind := config.values.get("sae_type", "crosscoder")) != "crosscoder":
        raise InterpError(f"{config.path}: sae_type is {kind}; of llamascopium's only crosscoders can be read")
    norms = {name: "" for name in t if name.startswith(_MEAN_NORM)}
    threshold = {_THRESHOLD: "L"} if config.values.get("act_fn") == "jumprelu" else {}
    # Norms that were never measured are saved as whatever was in memory.
    sizes = check(weights, {**_REQUIRED, **threshold}, norms, unchecked=tuple(norms))
    return loaded(
        weights.path,
        _gate(weights, config),
        W_enc=t["W_E"],
        W_dec=t["W_D"].transpose(0, 1),
        b_enc=t["b_E"].double().sum(0).float(),
        b_dec=t["b_D"],
        scale=_scale(weights, config, scales, sizes["n"], sizes["d"]),
    )


def _gate(weights: Weights, config: Config) -> Gate:
    norms = weights.tensors["W_D"].norm(dim=2)
    function = config.values.get("act_fn", "relu")
    match function:
        case "relu":
            return Gate("relu")
        case "jumprelu":
            by_model = weights.tensors[_THRESHOLD].exp() / norms
            one = one_for_all_models(weights.path, "thresholds / decoder norms", by_model)
            return Gate("jumprelu", log_threshold=one.log())
        case "topk":
            # A model ranks by its own norms and we by their sum: the same where they are proportional.
            one_for_all_models(weights.path, "proportions of decoder norms", norms / norms.mean(1, keepdim=True))
            return Gate("topk", k=config.count("top_k"))
        case _:
            raise InterpError(
                f"{config.path}: act_fn {function} cannot be read: its choice depends on the batch, and the file holds"
                " no threshold; convert it to jumprelu in llamascopium"
            )


def _scale(
    weights: Weights, config: Config, scales: tuple[float, ...] | None, n_models: int, d_model: int
) -> Float[Tensor, "models 1"] | None:
    match how := config.values.get("norm_activation", "dataset-wise"):
        case "inference":
            refuse_scales(weights, scales)
            return None
        case "dataset-wise":
            hooks = config.values.get("hook_points", [])
            names = [f"{_MEAN_NORM}{hook}" for hook in hooks] if isinstance(hooks, list) else []
            if len(names) != n_models or not all(name in weights.tensors for name in names):
                return need_scales(weights, scales, n_models)[:, None]
            refuse_scales(weights, scales)
            mean_norm = torch.stack([weights.tensors[name] for name in names])
            if not (mean_norm.isfinite() & (mean_norm > 0)).all():
                raise InterpError(
                    f"{weights.path}: its dataset_average_activation_norm was never measured; save it anew"
                )
            return (d_model**0.5 / mean_norm)[:, None]
        case _:
            raise InterpError(
                f"{config.path}: norm_activation {how} cannot be read, because it is not one factor for all rows"
            )
