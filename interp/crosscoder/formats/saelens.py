"""Format 4: SAELens' dictionaries of one model, read as a crosscoder with n_models 1.

Read are the architectures standard, jumprelu (which batchtopk is saved as) and topk. `apply_b_dec_to_input` is folded
into b_enc. Of its normalisations `none` is read, and `expected_average_only_in`, a factor that the file does not hold;
the others depend on each row, or on statistics that the file lacks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.checks import check, need_scales, refuse_scales
from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.parts import Gate, Parts, bias_after_subtraction
from interp.crosscoder.formats.weights import Config, Weights, need_config
from interp.errors import InterpError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_REQUIRED = {"W_enc": "d L", "W_dec": "L d", "b_enc": "L", "b_dec": "d"}
_READ = ("standard", "jumprelu", "topk")
_OLD_TRUTH = {True: "expected_average_only_in", False: "none", None: "none"}
"""What early configs say of normalize_activations."""


def read(weights: Weights, scales: tuple[float, ...] | None) -> Parts:
    """The parts of a dictionary in this format.

    Raises:
        InterpError: see `formats.read`; also an architecture or a normalisation that cannot be read.
    """
    config = need_config(weights, CONFIG)
    architecture = _architecture(config)
    threshold = {"threshold": "L"} if architecture == "jumprelu" else {}
    check(weights, {**_REQUIRED, **threshold}, {"scaling_factor": "L"})
    t = weights.tensors
    if "scaling_factor" in t and not torch.allclose(t["scaling_factor"], torch.ones(())):
        raise InterpError(f"{weights.path}: scaling_factor is not 1 throughout; SAELens does not apply it any more")
    W_enc, W_dec, b_enc, b_dec = t["W_enc"][None], t["W_dec"][:, None], t["b_enc"], t["b_dec"][None]
    if config.values.get("apply_b_dec_to_input", True):
        b_enc = bias_after_subtraction(b_enc, W_enc, b_dec)
    if config.values.get("rescale_acts_by_decoder_norm") and architecture == "topk":
        norms = t["W_dec"].norm(dim=1)  # its activations are ours times these
        W_enc, b_enc, W_dec = W_enc * norms, b_enc * norms, W_dec / norms[:, None, None]
    scale = _scale(weights, config, scales)
    return Parts(W_enc, W_dec, b_enc, b_dec, _gate(weights, config, architecture, W_dec), scale=scale)


def _architecture(config: Config) -> str:
    """The architecture; before version 6 a topk was a standard one with another activation function."""
    said = config.values
    function = said.get("activation_fn", said.get("activation_fn_str", "relu"))
    name = said.get("architecture", "standard")
    name = "topk" if name == "standard" and function == "topk" else name
    if name not in _READ or function not in ("relu", "topk"):
        raise InterpError(
            f"{config.path}: architecture {name} with {function} cannot be read; of SAELens' {', '.join(_READ)} can"
            " (a batchtopk one is saved as jumprelu by save_inference_model)"
        )
    return name


def _gate(weights: Weights, config: Config, architecture: str, W_dec: Float[Tensor, "latents models d_model"]) -> Gate:
    if architecture == "jumprelu":
        # Below 0 it acts as 0 does, because relu comes first.
        return Gate("jumprelu", log_threshold=weights.tensors["threshold"].clamp(min=0).log())
    if architecture == "topk":
        check_ranking(weights.path, "SAELens", W_dec.flatten(1).norm(dim=1))
        early = config.values.get("activation_fn_kwargs")
        return Gate("topk", k=(Config(config.path, early) if isinstance(early, dict) and early else config).count("k"))
    return Gate("relu")


def _scale(weights: Weights, config: Config, scales: tuple[float, ...] | None) -> Float[Tensor, "1 1"] | None:
    said = config.values.get("normalize_activations")
    said = _OLD_TRUTH.get(said, said) if said is None or isinstance(said, bool) else said
    if said == "expected_average_only_in":
        return need_scales(weights, scales, 1)[:, None]
    if said != "none":
        raise InterpError(
            f"{config.path}: normalize_activations={said} cannot be read: it is not one factor for all rows, or its"
            " statistics are not in the file; fold it in SAELens before saving"
        )
    refuse_scales(weights, scales)
    return None
