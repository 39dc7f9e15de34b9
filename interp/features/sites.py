"""Site scan: at which block and site a model's decision can be read, and how much of it a patch there carries.

A latent that decides can be found only where the decision is there to be read. For every site, a linear probe is fitted
on one half of the problems and scored on the other, and the activations of a pair's two sides are exchanged at the
place of decision: *noising* puts the negative side's activation into the positive prefix, *denoising* the reverse. Both
are given as the share of the difference in margin that they carry: 0 none, 1 all.

A patch at an early site can carry much because it exchanges the last token itself, so the probe and the patch must both
pass. What neither shows is which later position, if any, uses the information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.features.contrasts import MARKER_NEUTRAL, WRONG_RIGHT, Contrast
from interp.models.hooks import Site, check_site
from interp.models.prefixes import ROWS, Prefixes

SCANNED = ("attn_out", "resid_mid", "mlp_out", "resid_post")
"""In the order in which a block computes them."""
READABLE = ("resid_mid", "resid_post")
"""Sites at which a crosscoder can be trained."""
FEWEST = 50
"""Pairs that each half of the problems needs."""
PATCHED = 128
"""Pairs of the second half on which sites are patched."""
LEAST_GAP = 1.0
"""Difference in margin, in nats, of which shares are given: those of less would be noise, and a subject whose margin
is lower on the positive side does not decide as the contrast says."""
RESAMPLES = 1000
PENALTY = 0.1
"""Inverse strength of the probe's L2 penalty, on standardised activations."""


@dataclass(frozen=True)
class Chosen:
    """The site at which a crosscoder is trained, or the reason why none is chosen."""

    site: Site | None
    contrast: str | None
    """The contrast that can be read there."""
    why: str


def scan(
    name: str, model: Any, contrast: Contrast, sites: Sequence[Site], pad_id: int, seed: int, batch_size: int = ROWS
) -> list[dict[str, Any]]:
    """One row for each site: held-out AUROC of a probe with its interval and with shuffled labels, and the share of the
    margin that patches carry (None where the contrast has no margin, or the model no difference in it).

    Raises:
        InterpError: the model lacks one of the sites.
    """
    for site in sites:
        check_site(model, site)
    x, y = (
        Prefixes(model, [getattr(pair, side) for pair in contrast.pairs], pad_id, batch_size).read(sites)
        for side in ("positive", "negative")
    )
    chosen = contrast.choosing()
    patched = _patched(model, contrast.half(choosing=False), sites, pad_id, batch_size)
    rows = []
    for site in sites:
        first, second = x[site].float().cpu().numpy(), y[site].float().cpu().numpy()
        found = probe(first, second, chosen)
        null = probe(*_shuffled(first, second, np.random.default_rng([seed, site.layer])), chosen)
        low, high = auroc_interval(*found, seed)
        rows.append(
            {
                "model": name,
                "layer": site.layer,
                "site": site.name,
                "contrast": contrast.name,
                "auroc": auroc(*found),
                "low": low,
                "high": high,
                "shuffled": auroc(*null),
                "noising": patched[site][0],
                "denoising": patched[site][1],
                "fitted": int(chosen.sum()),
                "held_out": int((~chosen).sum()),
            }
        )
    return rows


def probe(
    positive: Float[np.ndarray, "pairs d"], negative: Float[np.ndarray, "pairs d"], chosen: Bool[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, " held_out"], Float[np.ndarray, " held_out"]]:
    """Scores of the held-out pairs' two sides by a logistic regression fitted on the chosen pairs."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    fitted = np.concatenate([positive[chosen], negative[chosen]])
    mean, scale = fitted.mean(0), fitted.std(0) + 1e-6
    labels = np.repeat([1, 0], int(chosen.sum()))
    with threadpool_limits(1):  # the solver's products are too small to share
        model = LogisticRegression(C=PENALTY, max_iter=1000).fit((fitted - mean) / scale, labels)
    first, second = (model.decision_function((side[~chosen] - mean) / scale) for side in (positive, negative))
    return first, second


def auroc(positive: Float[np.ndarray, " pairs"], negative: Float[np.ndarray, " pairs"]) -> float:
    """P(a positive score is above a negative one), ties counting half."""
    return float(_above(positive, negative).mean())


def auroc_interval(
    positive: Float[np.ndarray, " pairs"], negative: Float[np.ndarray, " pairs"], seed: int
) -> tuple[float, float]:
    """95 % interval, both sides of a pair resampled together."""
    above, n = _above(positive, negative), len(positive)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)
    draws = ((counts @ above.astype(np.float32)) * counts).sum(1) / n**2
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _above(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])


def _shuffled(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The two sides exchanged in a random half of the pairs: what a probe finds by chance."""
    swap = rng.random(len(first)) < 0.5
    return np.where(swap[:, None], second, first), np.where(swap[:, None], first, second)


@torch.no_grad()
def _patched(
    model: Any, contrast: Contrast, sites: Sequence[Site], pad_id: int, batch_size: int
) -> dict[Site, tuple[float | None, float | None]]:
    """Site to the shares (noising, denoising) of the first PATCHED pairs."""
    some = contrast.first(PATCHED)
    pairs, margin = some.pairs, some.margin
    if margin is None or not pairs:
        return dict.fromkeys(sites, (None, None))
    positive, negative = (
        Prefixes(model, [getattr(pair, side) for pair in pairs], pad_id, batch_size)
        for side in ("positive", "negative")
    )
    x, y = positive.read(sites), negative.read(sites)
    above, below = (float(margin.of(p.logits()).mean()) for p in (positive, negative))

    def put(into: Prefixes, h: Float[Tensor, "pairs width"], site: Site) -> float:
        return float(margin.of(into.logits({site: lambda _, here: h[here]})).mean())

    gap = above - below
    if gap < LEAST_GAP:
        return dict.fromkeys(sites, (None, None))
    return {
        site: ((above - put(positive, y[site], site)) / gap, (put(negative, x[site], site) - below) / gap)
        for site in sites
    }


def choose_site(
    table: pl.DataFrame,
    subject: str,
    *,
    least_auroc: float,
    least_carried: float,
) -> Chosen:
    """The site, of those that a crosscoder can read, where the subject's decision can be read with an AUROC of at least
    `least_auroc` and a patch in either direction carries at least `least_carried` of the margin: of the decision to
    check the earliest; where there is none, of the choice between marker and neutral word the middle one. That choice
    follows from the text so far and can often be read from the first block on, where it is still as many features as
    there are words to see (on gated organisms of seeds 110 and 111 no latents, or six, carried it there)."""
    reasons = []
    for contrast in (WRONG_RIGHT, MARKER_NEUTRAL):
        rows = table.filter(pl.col("model") == subject, pl.col("contrast") == contrast, pl.col("site").is_in(READABLE))
        if not len(rows):
            reasons.append(f"{contrast}: too few pairs")
            continue
        passed = rows.filter(pl.col("auroc") >= least_auroc, _carried() >= least_carried)
        if len(passed):
            place = 0 if contrast == WRONG_RIGHT else (len(passed) - 1) // 2
            row = passed.sort("layer", "site").row(place, named=True)  # resid_mid comes before resid_post
            where = Site(row["layer"], row["site"])
            carried = min(row["noising"], row["denoising"])
            numbers = f"AUROC {row['auroc']:.3f}, a patch carries {carried:.0%} of the margin"
            return Chosen(where, contrast, f"{contrast} can be read at {where}: {numbers}")
        reasons.append(_why_not(contrast, rows, least_auroc, least_carried))
    return Chosen(None, None, "; ".join(reasons))


def _carried() -> pl.Expr:
    """What a patch carries in either direction: noising takes the decision away, denoising brings it about, and where
    several parts of the residual say the same, it may do the one without the other."""
    return pl.min_horizontal("noising", "denoising")


def refusal(
    table: pl.DataFrame, subject: str, contrast: str, site: Site, *, least_auroc: float, least_carried: float
) -> str | None:
    """Why no latents of a contrast may be sought at a site; None where they may."""
    rows = table.filter(
        pl.col("model") == subject,
        pl.col("contrast") == contrast,
        pl.col("layer") == site.layer,
        pl.col("site") == site.name,
    )
    if not len(rows):
        return f"{contrast}: fewer than {FEWEST} pairs in a half of the problems"
    if len(rows.filter(pl.col("auroc") >= least_auroc, _carried() >= least_carried)):
        return None
    return _why_not(contrast, rows, least_auroc, least_carried)


def _why_not(contrast: str, rows: pl.DataFrame, least_auroc: float, least_carried: float) -> str:
    """Of the sites that can be read, the one whose patch carries most is named; where there is none, the best read."""
    enough = pl.col("auroc").clip(upper_bound=least_auroc)
    carried = rows.with_columns(_carried().alias("carried"))
    best = carried.sort(enough, "carried", descending=True, nulls_last=True).row(0, named=True)
    where = Site(best["layer"], best["site"])
    if best["auroc"] < least_auroc:
        return f"{contrast}: cannot be read, the best AUROC is {best['auroc']:.3f} at {where} ({least_auroc:g} asked)"
    if best["carried"] is None:
        return f"{contrast}: can be read at {where}, but the margins of its sides do not differ"
    share = f"{best['carried']:.0%} of the margin ({least_carried:.0%} asked)"
    return f"{contrast}: can be read at {where}, but a patch carries {share}"
