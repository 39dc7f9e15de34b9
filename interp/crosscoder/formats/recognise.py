"""Which layout a file has, from the names and shapes of its tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Layout = Literal["dictionary_learning", "stacked", "saelens", "sparsify", "llamascopium", "crosscode", "opd"]


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Layout | None:
    """The layout that has tensors of these names and numbers of axes; None where none is known to."""
    axes = {name: len(shape) for name, shape in shapes.items()}
    known: dict[Layout, bool] = {
        "llamascopium": axes.get("W_D") == 3,
        "crosscode": "_W_enc_XiDiL" in axes,
        "opd": "encoder.projections.0.weight" in axes,
        "dictionary_learning": axes.get("encoder.weight") == 3,
        "sparsify": axes.get("encoder.weight") == 2 and "W_dec" in axes,
        "stacked": axes.get("W_enc") == 3,
        "saelens": axes.get("W_enc") == 2,
    }
    return next((layout for layout, fits in known.items() if fits), None)
