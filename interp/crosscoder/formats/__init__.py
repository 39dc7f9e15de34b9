"""Crosscoders as files: eight published formats are read, two are written.

| format | layout | read as | needs `scales` |
|---|---|---|---|
| dictionary_learning (and our own) | `encoder.weight` [M, D, L] | relu, batch_topk; ours also topk, jumprelu | no |
| stacked: ckkissane's, NeelNanda's | `W_enc` [M, D, L] | relu | yes |
| SAELens | `W_enc` [D, L] | relu, jumprelu, topk; one model | where its own are not folded in |
| sparsify | `encoder.weight` [L, D], `W_dec` | topk; one model | no |
| llamascopium | `W_E`, `W_D` | relu; jumprelu, topk where all models share one code | where the norms are not saved |
| crosscode | `_W_enc_XiDiL` | relu, jumprelu, topk; a model and a hook make one slot | where it is not folded |
| understanding-opd-crosscoders | `encoder.projections.0.weight` | relu, batch_topk; widths must be equal | no |

A file is known by its tensors' names and shapes; the config beside it is read only for what they do not say. What a
crosscoder of ours cannot compute exactly is refused with the reason, never approximated in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from interp.crosscoder.formats import crosscode, dictionary_learning, llamascopium, opd, saelens, sparsify, stacked
from interp.crosscoder.formats.export import write_sae_lens
from interp.crosscoder.formats.native import write
from interp.crosscoder.formats.parts import Parts, build
from interp.crosscoder.formats.recognise import Layout, recognise
from interp.crosscoder.formats.source import locate
from interp.crosscoder.formats.weights import Weights, load
from interp.crosscoder.module import Crosscoder
from interp.errors import InterpError

__all__ = ["read", "write", "write_sae_lens"]

_READERS: dict[Layout, Callable[[Weights, tuple[float, ...] | None], Parts]] = {
    "dictionary_learning": dictionary_learning.read,
    "stacked": stacked.read,
    "saelens": saelens.read,
    "sparsify": sparsify.read,
    "llamascopium": llamascopium.read,
    "crosscode": crosscode.read,
    "opd": opd.read,
}


def read(source: Path | str, *, scales: tuple[float, ...] | None = None) -> Crosscoder:
    """A crosscoder from a folder, a weights file or a hub id (`owner/name`, `owner/name/sub/folder`).

    `scales`, one factor a model that the input is multiplied by, is given exactly where the file does not hold it.

    Raises:
        InterpError: nothing readable there; tensors that are missing, unknown, misshapen or not finite; a config that
            is missing or says something else; a variant that our crosscoder cannot compute; scales missing, or given
            where the file has its own.
    """
    weights = load(locate(source))
    layout = recognise({name: tuple(tensor.shape) for name, tensor in weights.tensors.items()})
    if layout is None:
        seen = ", ".join(sorted(weights.tensors)[:4]) or "none"
        raise InterpError(
            f"{weights.path}: no format of a crosscoder has these tensors ({seen}, {len(weights.tensors)} in all);"
            f" the formats known are {', '.join(_READERS)}"
        )
    return build(weights.path, _READERS[layout](weights, scales))
