"""Crosscoders as files: eight published formats are read, two are written.

| format | layout | read as | needs `scales` |
|---|---|---|---|
| dictionary_learning (and our own) | `encoder.weight` [M, D, L] | relu, batch_topk; ours also topk, jumprelu | no |
| stacked: ckkissane's, NeelNanda's | `W_enc` [M, D, L] | relu | yes |
| SAELens | `W_enc` [D, L] | relu, jumprelu, topk; one model | where its own are not folded in |
| sparsify | `encoder.weight` [L, D], `W_dec` | topk; one model | no |
| llamascopium | `W_E`, `W_D` | relu; jumprelu, topk where all models share one code | where the norms are not saved |
| crosscode | `_W_enc_XiDiL` | relu, jumprelu, topk; one slot per (model, hook) | where it is not folded |
| understanding-opd-crosscoders | `encoder.projections.0.weight` | relu, batch_topk; widths must be equal | no |

Readers and writers are pure functions between files and (`CrosscoderConfig`, state dict); `Crosscoder.load` and
`Crosscoder.save` are their users. The layout is recognised from the tensors' names and shapes; the config file is read
only for what these do not determine. A variant that our crosscoder cannot compute exactly is refused with the reason.

A new format is one file here with a function `read(weights, scales) -> Loaded`, one line in `_READERS`, and its
recognition in `weights.recognise`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interp.crosscoder.formats import crosscode, dictionary_learning, llamascopium, opd, saelens, sparsify
from interp.crosscoder.formats.dictionary_learning import write
from interp.crosscoder.formats.parts import Loaded
from interp.crosscoder.formats.saelens import write as write_sae_lens
from interp.crosscoder.formats.weights import Layout, Weights, load, locate, recognise
from interp.errors import InterpError

__all__ = ["Loaded", "read", "write", "write_sae_lens"]

_READERS: dict[Layout, Callable[[Weights, tuple[float, ...] | None], Loaded]] = {
    "dictionary_learning": dictionary_learning.read,
    "stacked": saelens.read_stacked,
    "saelens": saelens.read,
    "sparsify": sparsify.read,
    "llamascopium": llamascopium.read,
    "crosscode": crosscode.read,
    "opd": opd.read,
}


def read(source: Path | str, *, scales: tuple[float, ...] | None = None) -> Loaded:
    """The config and the state dict of the crosscoder in a folder, a weights file or a hub repository (`owner/name`,
    `owner/name/sub/folder`).

    `scales`, one factor per model by which the input is multiplied, is given exactly where the file does not hold it.

    Raises:
        InterpError: nothing readable there; tensors that are missing, unknown, misshapen, not floats or not finite; a
            config that is missing or contradicts the tensors; a variant that our crosscoder cannot compute; scales
            missing, or given where the file has its own.
    """
    weights = load(locate(source))
    layout = recognise({name: tuple(tensor.shape) for name, tensor in weights.tensors.items()})
    if layout is None:
        seen = ", ".join(sorted(weights.tensors)[:4]) or "none"
        raise InterpError(
            f"{weights.path}: no format of a crosscoder has these tensors ({seen}, {len(weights.tensors)} in all);"
            f" the formats known are {', '.join(_READERS)}"
        )
    return _READERS[layout](weights, scales)
