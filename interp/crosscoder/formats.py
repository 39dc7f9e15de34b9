"""Format 1: the files of dictionary_learning's BatchTopKCrossCoder.

That reader has three ways to normalise, and all of them give our x̂ = (x - mean) * scale here (its own 1e-8 guards
aside): `activation_global_scale` is our scale, which it multiplies by; `activation_std` is 1 / scale for every
coordinate, for readers that divide by it (not the coordinates' own deviations); and `target_rms` is sqrt(d_model), with
which it derives the same scale from the deviations, as target_rms / |activation_std|. We read the scale itself, because
1 / (1 / scale) can differ in the last bit.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.errors import InterpError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_CONFIG_KEYS = {"n_models": "num_layers", "d_model": "activation_dim", "n_latents": "dict_size", "k": "k"}
_BY_CROSSCODER_NORM = 1
"""code_normalization_id: the score is f * sum_m |W_dec[m]|."""


def write(folder: Path, config: CrosscoderConfig, state: dict[str, Tensor]) -> None:
    """Write a crosscoder's state dict into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    published = {theirs: getattr(config, ours) for ours, theirs in _CONFIG_KEYS.items()}
    (folder / CONFIG).write_text(json.dumps(published, indent=2) + "\n")
    tensors = to_published(config, {name: tensor.cpu() for name, tensor in state.items()})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def read(folder: Path) -> tuple[CrosscoderConfig, dict[str, Tensor]]:
    """A config and a state dict from `folder`.

    Raises:
        InterpError: a missing or unreadable file, or missing, unknown or misshapen tensors.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InterpError(f"{folder}: there is no {name}; name a folder that Crosscoder.save wrote")
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise InterpError(f"{folder / WEIGHTS}: not a safetensors file ({error}); copy or train it anew") from error
    _check(folder / WEIGHTS, config, tensors)
    return config, from_published(tensors)


def to_published(config: CrosscoderConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names to format 1's."""
    return {
        "encoder.weight": state["W_enc"],
        "encoder.bias": state["b_enc"],
        "decoder.weight": state["W_dec"].transpose(0, 1),
        "decoder.bias": state["b_dec"],
        "code_normalization_id": torch.tensor(_BY_CROSSCODER_NORM),
        "activation_mean": state["mean"],
        "activation_std": (1 / state["scale"])[:, None].expand_as(state["mean"]),
        "activation_global_scale": state["scale"],
        "target_rms": torch.tensor(math.sqrt(config.d_model)),
        "k": torch.tensor(config.k, dtype=torch.int32),
        "threshold": state["threshold"],
    }


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Format 1's names to ours."""
    return {
        "W_enc": tensors["encoder.weight"],
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["decoder.weight"].transpose(0, 1).contiguous(),
        "b_dec": tensors["decoder.bias"],
        "mean": tensors["activation_mean"],
        "scale": tensors["activation_global_scale"],
        "threshold": tensors["threshold"],
    }


def _read_config(path: Path) -> CrosscoderConfig:
    try:
        published = json.loads(path.read_text())
        return CrosscoderConfig(**{ours: published[theirs] for ours, theirs in _CONFIG_KEYS.items()})
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InterpError(
            f"{path}: not a crosscoder's config ({reason}); it needs {', '.join(_CONFIG_KEYS.values())}"
        ) from error


def _check(path: Path, config: CrosscoderConfig, tensors: dict[str, Tensor]) -> None:
    m, d, n = config.n_models, config.d_model, config.n_latents
    wanted: dict[str, tuple[int, ...]] = {
        "encoder.weight": (m, d, n),
        "encoder.bias": (n,),
        "decoder.weight": (m, n, d),
        "decoder.bias": (m, d),
        "code_normalization_id": (),
        "activation_mean": (m, d),
        "activation_std": (m, d),
        "activation_global_scale": (m,),
        "target_rms": (),
        "k": (),
        "threshold": (),
    }
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise InterpError(f"{path}: {', '.join(missing)} missing; save the crosscoder again")
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise InterpError(f"{path}: unknown tensors {', '.join(unknown)}; this is not what Crosscoder.save wrote")
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise InterpError(
                f"{path}: {name} has shape {list(tensors[name].shape)}, and {CONFIG} beside it makes it {list(shape)};"
                " put the two files of one save together"
            )
    for name, value in (("code_normalization_id", _BY_CROSSCODER_NORM), ("k", config.k)):
        if int(tensors[name]) != value:
            raise InterpError(f"{path}: {name} is {int(tensors[name])} where {value} is meant; save it again")
