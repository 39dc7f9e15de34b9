"""Formats 2 to 4: SAELens' dictionaries, and the stacked crosscoders of ckkissane and NeelNanda.

Format 4, SAELens' dictionaries of one model, is read as a crosscoder with n_models 1.

Read are the architectures standard, jumprelu (which batchtopk is saved as) and topk. `apply_b_dec_to_input` is folded
into b_enc. Of its normalisations `none` is read, and `expected_average_only_in`, a factor that the file does not hold;
the others depend on each row, or on statistics that the file lacks.

Formats 2 and 3 are one stack of weights per model (ckkissane) or layer (NeelNanda), relu. Their input is each slot's
residual times sqrt(d_model) / mean |x|, a factor measured in training and not published with the weights; the
beginning-of-sequence position was left out of that mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.parts import (
    Gate,
    Loaded,
    bias_after_subtraction,
    check,
    loaded,
    need_scales,
    refuse_scales,
)
from interp.crosscoder.formats.weights import Config, Weights, need_config
from interp.errors import InterpError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_REQUIRED = {"W_enc": "d L", "W_dec": "L d", "b_enc": "L", "b_dec": "d"}
_READ = ("standard", "jumprelu", "topk")
_EARLY_NAMES = {True: "expected_average_only_in", False: "none", None: "none"}
"""Values of normalize_activations in early configs, by their present names."""
_VERSION = "6.54.12"
"""The version of sae_lens whose layout is written; from 6 on it reads configs as they are."""
_ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk"}


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The dictionary in a file of this format.

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
    gate = _gate(weights, config, architecture, W_dec)
    return loaded(weights.path, gate, W_enc=W_enc, W_dec=W_dec, b_enc=b_enc, b_dec=b_dec, scale=scale)


def _architecture(config: Config) -> str:
    """The architecture; before version 6 a topk was a standard one with another activation function."""
    values = config.values
    function = values.get("activation_fn", values.get("activation_fn_str", "relu"))
    name = values.get("architecture", "standard")
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
    kind = config.values.get("normalize_activations")
    kind = _EARLY_NAMES[kind] if kind is None or isinstance(kind, bool) else kind
    if kind == "expected_average_only_in":
        return need_scales(weights, scales, 1)[:, None]
    if kind != "none":
        raise InterpError(
            f"{config.path}: normalize_activations={kind} cannot be read: it is not one factor for all rows, or its"
            " statistics are not in the file; fold it in SAELens before saving"
        )
    refuse_scales(weights, scales)
    return None


def read_stacked(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The crosscoder in a file of formats 2 and 3.

    Raises:
        InterpError: see `formats.read`.
    """
    sizes = check(weights, {"W_enc": "n d L", "W_dec": "L n d", "b_enc": "L", "b_dec": "n d"})
    scale = need_scales(weights, scales, sizes["n"])
    t = weights.tensors
    return loaded(
        weights.path,
        Gate("relu"),
        W_enc=t["W_enc"],
        W_dec=t["W_dec"],
        b_enc=t["b_enc"],
        b_dec=t["b_dec"],
        scale=scale[:, None],
    )


def write(config: CrosscoderConfig, state: Mapping[str, Tensor], folder: Path | str) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`, which `sae_lens.SAE.load_from_disk` opens: a flat dictionary
    with d_in = M * D, whose input is the models' residuals one after the other.

    The crosscoder must be folded (mean 0, scale 1) and of relu, jumprelu or topk; see `Crosscoder.save_sae_lens`.
    """
    folder = Path(folder)
    tensors = {
        "W_enc": state["encoder"].T,
        "W_dec": state["decoder"],
        "b_enc": state["b_enc"],
        "b_dec": state["b_dec"].flatten(),
    }
    metadata = {
        "architecture": _ARCHITECTURES[config.activation],
        "d_in": config.n_models * config.d_model,
        "d_sae": config.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": _VERSION, "n_models": config.n_models, "d_model": config.d_model},
    }
    if config.activation == "jumprelu":
        tensors["threshold"] = state["log_threshold"].exp()
    if config.activation == "topk":
        metadata |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(metadata, indent=2) + "\n")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
