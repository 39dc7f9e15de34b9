"""What every format demands of its tensors, and of the scales that a user gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from interp.crosscoder.formats.weights import Weights
from interp.errors import InterpError

_NONE: Mapping[str, str] = MappingProxyType({})


def check(
    weights: Weights,
    required: Mapping[str, str],
    optional: Mapping[str, str] = _NONE,
    *,
    unchecked: Sequence[str] = (),
) -> dict[str, int]:
    """Refuse tensors that are missing, unknown, misshapen or not finite; the size that each letter stands for.

    `required` and `optional` map names to shapes as letters, such as "n d L"; a letter is one size throughout. Values
    of `unchecked` ones, which may be NaN or infinite by design, are left to the caller.

    Raises:
        InterpError: the first fault found.
    """
    tensors, path = weights.tensors, weights.path
    if missing := [name for name in required if name not in tensors]:
        raise InterpError(f"{path}: {', '.join(missing[:4])} missing; save or download it again")
    if unknown := sorted(tensors.keys() - required.keys() - optional.keys()):
        raise InterpError(
            f"{path}: tensors that this format does not have ({', '.join(unknown[:4])}), so it computes something else;"
            " name another file"
        )
    sizes: dict[str, int] = {}
    for name, letters in {**required, **optional}.items():
        if name not in tensors:
            continue
        tensor, axes = tensors[name], letters.split()
        known = [sizes.get(axis) for axis in axes]
        fits = len(axes) == tensor.ndim and all(
            size in (None, held) for size, held in zip(known, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(axis if axis not in sizes else str(sizes[axis]) for axis in axes)
            raise InterpError(
                f"{path}: {name} has shape {list(tensor.shape)}, not [{wanted}]; save or download it again"
            )
        sizes.update(zip(axes, tensor.shape, strict=True))
        if name not in unchecked and not torch.isfinite(tensor).all():
            raise InterpError(f"{path}: {name} holds NaN or infinite values; the file is damaged, or training diverged")
    return sizes


def need_scales(weights: Weights, scales: tuple[float, ...] | None, n_models: int) -> Float[Tensor, " models"]:
    """The user's factors, for a file that holds none.

    Raises:
        InterpError: none were given, another number of them than there are models, or one that is not above 0.
    """
    how = f"give {n_models}, as in Crosscoder.load(path, scales={(1.0,) * n_models})"
    if scales is None:
        raise InterpError(
            f"{weights.path}: was trained on inputs scaled by sqrt(d_model) / mean |x| of each model, and does not hold"
            f" these factors; {how} with the factors in place of 1.0"
        )
    if len(scales) != n_models:
        raise InterpError(f"{weights.path}: scales has {len(scales)} factors, and the file {n_models} models; {how}")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise InterpError(f"{weights.path}: scales={scales} must be finite and above 0; {how}")
    return torch.tensor(scales)


def refuse_scales(weights: Weights, scales: tuple[float, ...] | None) -> None:
    """Refuse factors for a file that says how its input is scaled.

    Raises:
        InterpError: they were given.
    """
    if scales is not None:
        raise InterpError(f"{weights.path}: says itself how its input is scaled; leave scales out")
