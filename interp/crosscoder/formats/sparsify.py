"""Format 5: sparsify's sparse autoencoders of one model, read as a crosscoder with n_models 1.

Its encoder takes b_dec off the input, which is folded into b_enc, and keeps each row's k largest relu activations. Ours
are ranked by activation times decoder norm: the same where these norms are equal, as its training keeps them.
"""

from __future__ import annotations

from interp.crosscoder.formats.gating import check_ranking
from interp.crosscoder.formats.parts import Gate, Loaded, bias_after_subtraction, check, loaded, refuse_scales
from interp.crosscoder.formats.weights import Weights, need_config
from interp.errors import InterpError

CONFIG = "cfg.json"


def read(weights: Weights, scales: tuple[float, ...] | None) -> Loaded:
    """The dictionary in a file of this format.

    Raises:
        InterpError: see `formats.read`; also a transcoder, or another activation than topk.
    """
    t = weights.tensors
    config = need_config(weights, CONFIG)
    if "W_skip" in t or config.values.get("transcode") or config.values.get("skip_connection"):
        raise InterpError(
            f"{weights.path}: a transcoder, which predicts another site than it reads; name an autoencoder"
        )
    check(weights, {"encoder.weight": "L d", "encoder.bias": "L", "W_dec": "L d", "b_dec": "d"})
    refuse_scales(weights, scales)
    activation = "signed topk" if config.values.get("signed") else config.values.get("activation", "topk")
    if activation != "topk":
        raise InterpError(f"{config.path}: activation {activation} cannot be read; of sparsify's only topk can")
    check_ranking(weights.path, "sparsify", t["W_dec"].norm(dim=1))
    W_enc, b_dec = t["encoder.weight"].T[None], t["b_dec"][None]
    b_enc = bias_after_subtraction(t["encoder.bias"], W_enc, b_dec)
    gate = Gate("topk", k=config.count("k"))
    return loaded(weights.path, gate, W_enc=W_enc, W_dec=t["W_dec"][:, None], b_enc=b_enc, b_dec=b_dec)
