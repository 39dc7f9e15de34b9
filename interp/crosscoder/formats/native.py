"""What `Crosscoder.save` writes: format 1, with as little of our own as reading it back to the bit takes.

dictionary_learning's BatchTopKCrossCoder reads a batch_topk crosscoder as it is: x̂ comes from `activation_mean` and
`activation_global_scale`, our mean and scale. `activation_std` is 1 / scale, for readers that divide by it (these are
not the coordinates' own deviations), and with `target_rms` = sqrt(d_model) the library derives the same scale from it.
A scale that differs within a model cannot be said that way: then `activation_global_scale` and `target_rms` are NaN,
the format's word for unused, so that no reader is wrong unawares, and `activation_scale` [M, D] holds the scale itself,
because 1 / (1 / scale) can differ in the last bit.

The other gates have tensors that the library's classes refuse (`k` without `threshold` for topk, `log_threshold` for
jumprelu), but for relu, which is its CrossCoder. config.json has keys of ours only where they say something: the
library passes every key of it to its constructor.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from interp.crosscoder.formats.dictionary_learning import CONFIG, WEIGHTS
from interp.crosscoder.formats.gating import BY_CROSSCODER_NORM
from interp.crosscoder.module import Crosscoder


def write(crosscoder: Crosscoder, folder: Path | str) -> None:
    """Write `config.json` and `model.safetensors` into `folder`, which is made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(_config(crosscoder), indent=2) + "\n")
    tensors = {**_weights(crosscoder), **_normalisation(crosscoder), **_gate(crosscoder)}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def _config(crosscoder: Crosscoder) -> dict[str, int | str | None]:
    config = crosscoder.config
    said: dict[str, int | str | None] = {
        "num_layers": config.n_models,
        "activation_dim": config.d_model,
        "dict_size": config.n_latents,
    }
    if config.k is not None:
        said["k"] = config.k
    if config.activation != "batch_topk":
        said["activation"] = config.activation
    if config.n_dedicated:
        said["n_dedicated"] = config.n_dedicated
    return said


def _weights(crosscoder: Crosscoder) -> dict[str, Tensor]:
    return {
        "encoder.weight": crosscoder.W_enc,
        "encoder.bias": crosscoder.b_enc,
        "decoder.weight": crosscoder.W_dec.transpose(0, 1),
        "decoder.bias": crosscoder.b_dec,
        "code_normalization_id": torch.tensor(BY_CROSSCODER_NORM),
    }


def _normalisation(crosscoder: Crosscoder) -> dict[str, Tensor]:
    scale = crosscoder.scale
    said = {"activation_mean": crosscoder.mean, "activation_std": 1 / scale}
    if (scale == scale[:, :1]).all():
        target_rms = torch.tensor(math.sqrt(crosscoder.config.d_model))
        return said | {"activation_global_scale": scale[:, 0], "target_rms": target_rms}
    unused = {"activation_global_scale": torch.full((len(scale),), torch.nan), "target_rms": torch.tensor(torch.nan)}
    return said | unused | {"activation_scale": scale}


def _gate(crosscoder: Crosscoder) -> dict[str, Tensor]:
    k = torch.tensor(crosscoder.config.k or 0, dtype=torch.int32)
    match crosscoder.config.activation:
        case "batch_topk":
            return {"k": k, "threshold": crosscoder.threshold}
        case "topk":
            return {"k": k}
        case "jumprelu":
            return {"log_threshold": crosscoder.log_threshold}
        case "relu":
            return {}
