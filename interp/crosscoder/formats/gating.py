"""Other libraries' gates in terms of ours: which are equal, and which cannot be expressed."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.parts import Gate
from interp.crosscoder.formats.weights import Config
from interp.errors import InterpError

TOLERANCE = 1e-3
"""Largest relative difference of numbers that should be equal; more is refused."""
BY_CROSSCODER_NORM = 1
_NORMS = {1: "crosscoder", 2: "sae", 3: "mixed", 4: "none", 5: "decoupled"}
_MIXTURE = ("code_normalization_alpha_sae", "code_normalization_alpha_cc")


def batch_topk_gate(
    path: Path,
    norm_id: int,
    W_dec: Float[Tensor, "latents models d_model"],
    threshold: Float[Tensor, "*models"],
    k: int | None,
    config: Config | None,
) -> Gate:
    """dictionary_learning's gate at inference: f_j is kept where f_j * norm_j > threshold.

    `norm_id` says which norm of the decoder: 1 crosscoder, sum_m |W_dec[j, m]|, which is our batch_topk; 2 sae, the
    norm over all models; 3 mixed, a weighted sum of both; 4 none, 1; 5 decoupled, |W_dec[j, m]| with a threshold and
    a code for each model. All but the first become jumprelu, with threshold / norm_j for each latent.

    Raises:
        InterpError: the threshold was never set, the weights of the mixture are not known, or models' codes differ.
    """
    if (threshold < 0).any():
        raise InterpError(
            f"{path}: threshold is {threshold.min():g}, which means that training never set it, so that every positive"
            " activation would pass; load a later checkpoint"
        )
    if norm_id not in _NORMS:
        raise InterpError(f"{path}: code_normalization_id is {norm_id}; known are {sorted(_NORMS)}")
    if (threshold.ndim == 1) != (_NORMS[norm_id] == "decoupled"):
        raise InterpError(
            f"{path}: threshold has shape {list(threshold.shape)}, which code_normalization_id {norm_id}"
            f" ({_NORMS[norm_id]}) does not have; save or download it again"
        )
    if norm_id == BY_CROSSCODER_NORM:
        return Gate("batch_topk", k=k, threshold=threshold)
    by_model = W_dec.norm(dim=2)
    match _NORMS[norm_id]:
        case "sae":
            thresholds = threshold / W_dec.flatten(1).norm(dim=1)
        case "mixed":
            sae, crosscoder = _mixture(path, config)
            thresholds = threshold / (sae * W_dec.flatten(1).norm(dim=1) + crosscoder * by_model.sum(1))
        case "none":
            thresholds = threshold.expand(len(W_dec))
        case _:
            thresholds = one_for_all_models(path, "decoupled thresholds", (threshold / by_model).T)
    # 0 / 0 is a threshold of 0 on a decoder of 0, whose score never exceeds it.
    return Gate("jumprelu", log_threshold=torch.where(thresholds.isnan(), torch.inf, thresholds).log())


def one_for_all_models(path: Path, what: str, by_model: Float[Tensor, "models latents"]) -> Float[Tensor, " latents"]:
    """Each latent's value where it is the same for every model.

    Raises:
        InterpError: a latent's values differ, so that the models have different codes and ours is one.
    """
    if (off := spread(by_model)) > TOLERANCE:
        raise InterpError(
            f"{path}: {what} differ between models (by up to {off:.1%}), which gives each model a code of its own;"
            " our crosscoder has one code for all, so it cannot be read"
        )
    return by_model.mean(0)


def check_ranking(path: Path, library: str, norms: Float[Tensor, " latents"]) -> None:
    """Refuse a topk by activation whose choice would differ from our topk by score.

    Rescaling the latents cannot repair that, because it changes activation and norm by inverse factors.

    Raises:
        InterpError: latents' decoder norms differ.
    """
    if (off := spread(norms[:, None])) > TOLERANCE:
        raise InterpError(
            f"{path}: {library} keeps each row's k largest activations, and ours are ranked by activation times decoder"
            f" norm; these norms differ (by up to {off:.1%}), so other latents would be kept"
        )


def spread(values: Float[Tensor, "equals others"]) -> float:
    """Largest relative difference along the first axis; 0 where all are equal, zeros and infinities included."""
    low, high = values.amin(0), values.amax(0)
    return float(torch.where(low == high, 0.0, (high - low) / high.abs()).nan_to_num(nan=torch.inf).max())


def _mixture(path: Path, config: Config | None) -> tuple[float, float]:
    values = {} if config is None else config.values
    sae, crosscoder = (values.get(key) for key in _MIXTURE)
    if not (isinstance(sae, int | float) and isinstance(crosscoder, int | float)):
        raise InterpError(
            f"{path}: its gate weighs two norms (code_normalization_id 3, mixed), and no config beside it says how;"
            f" add {' and '.join(_MIXTURE)} to config.json"
        )
    return float(sae), float(crosscoder)
