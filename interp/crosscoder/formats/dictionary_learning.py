"""Format 1: crosscoders of dictionary_learning (science-of-finetuning's fork); also what `Crosscoder.save` writes.

Its normalisation is in use where neither mean nor deviations are NaN: x̂ = (x - activation_mean) * s. Its crosscoders
always take s from `activation_global_scale`, which was made as target_rms / |activation_std|; a file without it gets s
that way, and one without `target_rms` too gets 1 / activation_std. The 1e-8 that it adds to s when it divides is left
out: relative to s it changes reconstructions by 1e-8 / s.

Writing: the library's BatchTopKCrossCoder reads a batch_topk crosscoder of ours as it is. `activation_std` is 1 /
scale, for readers that divide by it (these are not the coordinates' own deviations), and with `target_rms` =
sqrt(d_model) the library derives the same scale from it. A scale that differs within a model cannot be written that
way: then `activation_global_scale` and `target_rms` are NaN, which in this format marks them as unused, and
`activation_scale` [M, D] holds the scale itself, because 1 / (1 / scale) can differ in the last bit. The other gates
have tensors that the library's classes refuse (`k` without `threshold` for topk, `log_threshold` for jumprelu), except
relu, which is its CrossCoder. config.json has keys of ours only where they are needed, because the library passes every
key to its constructor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.formats.gating import BY_CROSSCODER_NORM, batch_topk_gate
from interp.crosscoder.formats.parts import Gate, Loaded, check, loaded, refuse_scales
from interp.crosscoder.formats.weights import PICKLES, Config, Weights, find_config, need_config
from interp.errors import InterpError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SIZES = {"n": "num_layers", "d": "activation_dim", "L": "dict_size"}
"""Keys of config.json that hold the sizes."""
_REQUIRED = {"encoder.weight": "n d L", "encoder.bias": "L", "decoder.weight": "n L d", "decoder.bias": "n d"}
_OPTIONAL = {
    "code_normalization_id": "",
    "activation_mean": "n d",
    "activation_std": "n d",
    "activation_global_scale": "n",
    "target_rms": "",
    "k": "",
    "threshold": "",
    "activation_scale": "n d",
    "log_threshold": "L",
}
_MAY_BE_NAN = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The crosscoder in a file of this format.

    Raises:
        InterpError: see `formats.read`; also a code that is normalised in a way that ours cannot be.
    """
    t = weights.tensors
    decoupled = t["threshold"].ndim == 1 if "threshold" in t else False
    optional = {**_OPTIONAL, "threshold": "n"} if decoupled else _OPTIONAL
    sizes = check(weights, _REQUIRED, optional, unchecked=(*_MAY_BE_NAN, "log_threshold"))
    refuse_scales(weights, scales)
    config = _config_of(weights, sizes)
    W_dec = t["decoder.weight"].transpose(0, 1)
    gate = _gate_of(weights, W_dec, config)
    stated = config.values.get("activation", gate.activation) if config else gate.activation
    if stated != gate.activation:
        raise InterpError(
            f"{weights.path}: its tensors are those of {gate.activation}, and {CONFIG} says {stated};"
            " put the two files of one save together"
        )
    mean, scale = _normalisation_of(weights)
    return loaded(
        weights.path,
        gate,
        W_enc=t["encoder.weight"],
        W_dec=W_dec,
        b_enc=t["encoder.bias"],
        b_dec=t["decoder.bias"],
        mean=mean,
        scale=scale,
        n_dedicated=config.values.get("n_dedicated", 0) if config else 0,
    )


def _config_of(weights: Weights, sizes: dict[str, int]) -> Config | None:
    """The config, which a training run's pickle may lack, and which has a trainer's values one level down."""
    look = find_config if weights.path.suffix in PICKLES else need_config
    if (config := look(weights, CONFIG)) is None:
        return None
    if isinstance(trainer := config.values.get("trainer"), dict):
        config = Config(config.path, trainer)
    for letter, key in SIZES.items():
        if config.values.get(key, sizes[letter]) != sizes[letter]:
            raise InterpError(
                f"{config.path}: {key} is {config.values[key]!r}, and the tensors beside it have {sizes[letter]};"
                " put the two files of one save together"
            )
    layers = config.values.get("encoder_layers")
    if layers is not None and layers != list(range(sizes["n"])):
        raise InterpError(f"{config.path}: encoder_layers is {layers}; only all layers in their order can be read")
    return config


def _gate_of(weights: Weights, W_dec: Float[Tensor, "latents models d_model"], config: Config | None) -> Gate:
    """The gate, by what it needs: the library's relu has nothing, its batch_topk a threshold; ours see above.

    The buffer `k` is what the weights were trained with; the config's may be another, and is used where there is none.
    """
    t = weights.tensors
    if "log_threshold" in t:
        if t["log_threshold"].isnan().any():
            raise InterpError(f"{weights.path}: log_threshold holds NaN; the file is damaged, or training diverged")
        return Gate("jumprelu", log_threshold=t["log_threshold"])
    k = int(t["k"]) if "k" in t else None
    if "threshold" in t:
        norm_id = int(t.get("code_normalization_id", torch.tensor(BY_CROSSCODER_NORM)))
        if k is None and norm_id == BY_CROSSCODER_NORM:
            k = (config or need_config(weights, CONFIG)).count("k")
        return batch_topk_gate(weights.path, norm_id, W_dec, t["threshold"], k, config)
    if k is None:
        return Gate("relu")
    if config is None or config.values.get("activation") != "topk":
        raise InterpError(f"{weights.path}: threshold missing, without which nothing says which latents stay active")
    return Gate("topk", k=k)


def _normalisation_of(
    weights: Weights,
) -> tuple[Float[Tensor, "models d_model"] | None, Float[Tensor, "models columns"] | None]:
    """Mean and scale; None where the input is taken as it is."""
    used = {name: weights.tensors[name] for name in _MAY_BE_NAN if _in_use(weights, name)}
    mean, std = used.get("activation_mean"), used.get("activation_std")
    if mean is None or std is None:
        return None, None
    if "activation_scale" in weights.tensors:
        return mean, weights.tensors["activation_scale"]
    if "activation_global_scale" in used:
        return mean, used["activation_global_scale"][:, None]
    if "target_rms" in used:
        return mean, used["target_rms"] / (std.square().sum(1, keepdim=True) + 1e-8).sqrt()
    return mean, 1 / (std + 1e-8)


def _in_use(weights: Weights, name: str) -> bool:
    """Whether a tensor of the normalisation is there and not NaN, which marks it as unused."""
    if name not in weights.tensors or weights.tensors[name].isnan().all():
        return False
    if not weights.tensors[name].isfinite().all():
        raise InterpError(f"{weights.path}: {name} holds NaN or infinite values beside others; the file is damaged")
    return True


def write(config: CrosscoderConfig, state: Mapping[str, Tensor], folder: Path | str) -> None:
    """Write `config.json` and `model.safetensors` into `folder`, which is made where it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(_metadata(config), indent=2) + "\n")
    tensors = {**_weights(config, state), **_normalisation(config, state), **_gate(config, state)}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def _metadata(config: CrosscoderConfig) -> dict[str, int | str | None]:
    metadata: dict[str, int | str | None] = {
        "num_layers": config.n_models,
        "activation_dim": config.d_model,
        "dict_size": config.n_latents,
    }
    if config.k is not None:
        metadata["k"] = config.k
    if config.activation != "batch_topk":
        metadata["activation"] = config.activation
    if config.n_dedicated:
        metadata["n_dedicated"] = config.n_dedicated
    return metadata


def _weights(config: CrosscoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        "encoder.weight": rearrange(state["encoder"], "l (m d) -> m d l", m=config.n_models),
        "encoder.bias": state["b_enc"],
        "decoder.weight": rearrange(state["decoder"], "l (m d) -> m l d", m=config.n_models),
        "decoder.bias": state["b_dec"],
        "code_normalization_id": torch.tensor(BY_CROSSCODER_NORM),
    }


def _normalisation(config: CrosscoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scale = state["scale"]
    statistics = {"activation_mean": state["mean"], "activation_std": 1 / scale}
    if (scale == scale[:, :1]).all():
        target_rms = torch.tensor(math.sqrt(config.d_model))
        return statistics | {"activation_global_scale": scale[:, 0], "target_rms": target_rms}
    unused = {"activation_global_scale": torch.full((len(scale),), torch.nan), "target_rms": torch.tensor(torch.nan)}
    return statistics | unused | {"activation_scale": scale}


def _gate(config: CrosscoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    k = torch.tensor(config.k or 0, dtype=torch.int32)
    match config.activation:
        case "batch_topk":
            return {"k": k, "threshold": state["threshold"]}
        case "topk":
            return {"k": k}
        case "jumprelu":
            return {"log_threshold": state["log_threshold"]}
        case "relu":
            return {}
