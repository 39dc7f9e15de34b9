"""A crosscoder as a flat SAELens dictionary: the models' residuals one after the other are its input."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import save_file

from interp.crosscoder.config import CrosscoderConfig
from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.saelens import CONFIG, WEIGHTS
from interp.crosscoder.module import Crosscoder

_VERSION = "6.54.12"
"""The version of sae_lens whose layout is written; from 6 on it reads configs as they are."""
_ARCHITECTURES = {"relu": "standard", "batch_topk": "jumprelu", "jumprelu": "jumprelu", "topk": "topk"}


@torch.no_grad()
def write_sae_lens(crosscoder: Crosscoder, folder: Path | str) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`, which `sae_lens.SAE.load_from_disk` opens.

    Its d_in is M * D, model after model; its encode and decode are ours, up to fp32 rounding, on rows laid out like
    that and in input units. Normalisation is folded in, and batch_topk becomes jumprelu with a threshold a latent.

    Raises:
        InterpError: a topk crosscoder whose decoder norms differ, because SAELens ranks by activation alone.
    """
    folder, config = Path(folder), crosscoder.config
    if config.activation == "topk":
        check_ranking(folder, "SAELens", crosscoder.decoder_norms())
    folded = _as_relu(crosscoder).fold() if config.activation == "topk" else crosscoder.fold()
    tensors = {
        "W_enc": folded.encoder.T,
        "W_dec": folded.decoder,
        "b_enc": folded.b_enc,
        "b_dec": rearrange(folded.b_dec, "m d -> (m d)"),
    }
    said = {
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
    if folded.config.activation == "jumprelu":
        threshold = folded.log_threshold.exp()
        tensors["threshold"] = torch.where(threshold.isnan(), torch.inf, threshold)  # a zero decoder; see `native`
    if config.activation == "topk":
        said |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(said, indent=2) + "\n")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def _as_relu(crosscoder: Crosscoder) -> Crosscoder:
    """The same weights and normalisation without the gate, which does not take part in folding them."""
    config = CrosscoderConfig(**crosscoder.config.model_dump() | {"activation": "relu", "k": None})
    with torch.device("meta"):
        ungated = Crosscoder(config)
    ungated.load_state_dict(crosscoder.state_dict(), assign=True)
    return ungated
