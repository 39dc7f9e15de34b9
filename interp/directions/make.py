"""Directions from residual rows or from latents. What the caller knows of them (model, positions, hashes) is given as
`about`, and each function fills in the rest of the provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions.direction import Direction
from interp.directions.provenance import Provenance
from interp.errors import InterpError

UNKNOWN = Provenance()
_STEPS, _TOLERANCE = 10_000, 1e-8
"""Most steps of the probe's solver, and the largest coordinate of the gradient at which it stops."""


def difference_of_means(
    inside: Float[Tensor, "inside d_model"],
    outside: Float[Tensor, "outside _"],
    *,
    layer: int,
    site: str = "resid_post",
    about: Provenance = UNKNOWN,
) -> Direction:
    """Mean of the rows inside minus mean of those outside: it points towards `inside`, and its norm is the distance of
    the means. `residual_norm`, where `about` has none, is the mean norm of all these rows.

    A direction in which the means differ need not be one that the model uses; steer along it beside random directions
    (`random_like`, `random_in_covariance`).

    Raises:
        InterpError: a side without rows, of another width or not finite; equal means.
    """
    means = _means(inside, outside)
    return _made("difference_of_means", means[0] - means[1], layer, site, about, **_of_rows(inside, outside))


def from_latents(
    W_dec: Float[Tensor, "latents d_model"],
    latents: Sequence[int],
    weights: Float[Tensor, " weights"] | Sequence[float] | None = None,
    *,
    layer: int,
    site: str = "resid_post",
    about: Provenance = UNKNOWN,
) -> Direction:
    """Weighted sum of latents' decoder rows, Σ_i weights_i · W_dec_i; equal weights of 1 where none are given.

    `W_dec` holds the rows of `latents` in this order, in the residual's units (fold the dictionary's input scale in
    before). With weights = the change of the mean activations, the sum is the change of the mean that they decode to.

    Raises:
        InterpError: numbers of rows, latents and weights differ; a weight that is not finite; a sum of 0.
    """
    given = [1.0] * len(latents) if weights is None else [float(weight) for weight in weights]
    if not len(W_dec) == len(latents) == len(given) > 0:
        raise InterpError(
            f"from_latents: {len(W_dec)} decoder rows, {len(latents)} latents and {len(given)} weights; give as many"
            " of each, and at least one"
        )
    if not all(map(math.isfinite, given)):
        raise InterpError("from_latents: a weight is NaN or infinite; give finite ones")
    vector = torch.tensor(given, dtype=torch.float64) @ W_dec.detach().to("cpu", torch.float64)
    known = {"latents": tuple(int(latent) for latent in latents), "evidence": {"weights": given}}
    return _made("from_latents", vector, layer, site, about, **known)


def probe(
    positive: Float[Tensor, "positive d_model"],
    negative: Float[Tensor, "negative _"],
    l2: float = 1e-2,
    *,
    layer: int,
    site: str = "resid_post",
    about: Provenance = UNKNOWN,
) -> Direction:
    """Normal of a logistic regression's plane, which points towards `positive`; float64, deterministic.

    Minimises (mean loss of the positive + mean loss of the negative rows) / 2 + l2/2 · |w|² over w and an intercept,
    on rows that are centred and divided by one number (their root mean square), so that `l2` has no unit and no
    coordinate is rescaled. The vector is ŵ (ŵ · (mean of positive - mean of negative)), in the residual's units: added
    once, it moves the negative rows' mean to the positive rows' mean as the probe sees them. `evidence` has `l2` and
    `training_accuracy`, which says nothing about new rows.

    Raises:
        InterpError: as `difference_of_means`; l2 not above 0; the solver did not converge.
    """
    from sklearn.linear_model import LogisticRegression

    if not (math.isfinite(l2) and l2 > 0):
        raise InterpError(f"probe: l2 = {l2} is not above 0, without which separable rows have no solution; raise it")
    of_positive, of_negative = _means(positive, negative)
    rows = torch.cat([positive, negative]).detach().to("cpu", torch.float64)
    rows -= (of_positive + of_negative) / 2
    scale = float(rows.square().mean().sqrt())
    if scale == 0:
        raise InterpError("probe: all rows are equal; give rows that differ")
    labels = [1] * len(positive) + [0] * len(negative)
    # Its objective divided by C and by the number of rows is the one above.
    solver = LogisticRegression(C=1 / (l2 * len(rows)), class_weight="balanced", tol=_TOLERANCE, max_iter=_STEPS)
    solver.fit((rows / scale).numpy(), labels)
    if solver.n_iter_[0] >= _STEPS:
        raise InterpError(f"probe: not converged after {_STEPS} steps with l2 = {l2}; raise l2")
    weights = torch.from_numpy(solver.coef_[0])
    normal = weights / weights.norm()
    # By convexity this product is positive: the loss falls from w = 0 towards its minimum, and at 0 its steepest
    # descent is along the difference of the means.
    distance = normal @ (of_positive - of_negative)
    accuracy = solver.score((rows / scale).numpy(), labels)
    known = _of_rows(positive, negative) | {"evidence": {"l2": l2, "training_accuracy": float(accuracy)}}
    return _made("probe", normal * distance, layer, site, about, **known)


def _means(inside: Tensor, outside: Tensor) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]:
    """Both sides' means in float64."""
    for name, rows in (("first", inside), ("second", outside)):
        if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != inside.shape[1]:
            raise InterpError(
                f"rows: the {name} side has shape {list(rows.shape)}; give [rows, d_model], at least one row on either"
                " side, of one width"
            )
    means = [rows.detach().mean(0, dtype=torch.float64).cpu() for rows in (inside, outside)]
    if not all(mean.isfinite().all() for mean in means):
        raise InterpError("rows: some hold NaN or infinity; leave them out, or read them again in float32")
    return means[0], means[1]


def _of_rows(inside: Tensor, outside: Tensor) -> dict[str, float | int]:
    """What provenance holds of the rows."""
    norms = torch.cat([torch.linalg.vector_norm(r.detach(), dim=1, dtype=torch.float64) for r in (inside, outside)])
    return {"rows_inside": len(inside), "rows_outside": len(outside), "residual_norm": float(norms.mean())}


def _made(method: str, vector: Tensor, layer: int, site: str, about: Provenance, **known: object) -> Direction:
    norm = float(Direction(vector, layer, site).norm)  # refuses what is no direction before its norm is noted
    return Direction(vector, layer, site, about.made(method, norm, **known))
