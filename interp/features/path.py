"""How the difference between a contrast's two sides comes to the site of the decision: what each attention head, each
MLP and the embedding adds to the residual there, and where the heads that matter look.

Up to the site a residual is a sum. So the difference of the two sides' residuals at the place of decision is the sum of
the components' differences, and a component's *direct* effect is that of putting its difference alone into the positive
side's residual (path patching with all other paths held fixed; Goldowsky-Dill et al. 2023). The effects need not add
up, since what follows the site is not linear.

What a component adds it may only pass on: the paths end here, and where they begin is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InterpError
from interp.features.attribution import Decision
from interp.generation.sampling import left_padded
from interp.models.hooks import Site, check_site, output_projection
from interp.models.prefixes import Prefixes

LOOKED = 8
"""Last positions of the prefixes whose attention is shown."""
SHOWN = 4
"""Heads whose attention is shown."""
ROWS = 64
"""Prefixes over which attention is averaged."""
PATTERN = 64
"""Last tokens of an example whose whole pattern of attention is kept."""
SCHEMA = {
    "component": pl.String,
    "layer": pl.Int64,
    "head": pl.Int64,
    "effect": pl.Float64,
    "share": pl.Float64,
    "attention": pl.List(pl.Float64),
    "attention_negative": pl.List(pl.Float64),
    "tokens": pl.List(pl.String),
}
"""Columns of `path.parquet`, one row per component that writes before the site. `effect`: how far the mean margin of
the positive side falls, nats, when the component's part of the residual is that of the negative side; `share`: of the
whole site's. `attention`: of the SHOWN heads with the largest effect, the mean over the positive side's prefixes of the
attention from the place of decision, first to all tokens before the last LOOKED together, then to these, the oldest
first; `attention_negative`: the same of the negative side; `tokens`: the last LOOKED of one prefix."""
HEADS = {
    "side": pl.String,
    "layer": pl.Int64,
    "head": pl.Int64,
    "effect": pl.Float64,
    "tokens": pl.List(pl.String),
    "attention": pl.List(pl.List(pl.Float64)),
}
"""Columns of `heads.parquet`, one row per side of one example and each of the SHOWN heads. `side`: `positive` or
`negative`; `effect`: as in SCHEMA; `tokens`: the last PATTERN of the prefix, before them EARLIER where there are more;
`attention`: from every token (row) to every token, to EARLIER that to all tokens which it stands for; its own row is to
itself."""
EARLIER = "…"
"""Stands for the tokens before the last PATTERN."""


@dataclass(frozen=True)
class Part:
    """What one component adds to the residual at the last position, of both sides."""

    component: str
    """`head`, `mlp` or `embedding`."""
    layer: int | None
    head: int | None
    positive: Float[Tensor, "rows d_model"]
    negative: Float[Tensor, "rows d_model"]


def direct_path(
    decision: Decision,
    positive: Sequence[Sequence[int]],
    negative: Sequence[Sequence[int]],
    tokens: Sequence[str],
) -> pl.DataFrame:
    """The components' direct effects on the decision, with SCHEMA.

    Args:
        positive, negative: the two sides' prefixes, for attention.
        tokens: the first of the positive ones, spelled.

    Raises:
        InterpError: the architecture's blocks do not add what their attention and MLP return.
    """
    side, other, site, margin = decision.positive, decision.negative, decision.site, decision.margin
    untouched = float(margin.of(side.prefixes.logits()).mean())

    def left(change: Float[Tensor, "rows d_model"]) -> float:
        logits = side.prefixes.logits({site: lambda h, here: h + change[here].to(h)})
        return float(margin.of(logits).mean())

    with torch.no_grad():
        whole = untouched - left(other.h - side.h)
        found = [
            {
                "component": part.component,
                "layer": part.layer,
                "head": part.head,
                "effect": (effect := untouched - left(part.negative - part.positive)),
                "share": effect / whole if whole else None,
                "attention": None,
                "attention_negative": None,
                "tokens": None,
            }
            for part in parts(side.prefixes, other.prefixes, site)
        ]
    heads = sorted((row for row in found if row["component"] == "head"), key=lambda row: -row["effect"])[:SHOWN]
    places = [(row["layer"], row["head"]) for row in heads]
    looked = [attention(side.prefixes.model, rows[:ROWS], places) for rows in (positive, negative)]
    for row, here, there in zip(heads, *looked, strict=True):
        row |= {"attention": here, "attention_negative": there, "tokens": list(tokens[-LOOKED:])}
    return pl.DataFrame(found, schema=SCHEMA).sort("effect", descending=True)


def parts(positive: Prefixes, negative: Prefixes, site: Site) -> Iterator[Part]:
    """Every component that writes to the residual before `site`, with what it adds at the last position. Their sum is
    the residual.

    Raises:
        InterpError: the architecture's blocks do not add what their attention and MLP return, or the site is none of
            the residual.
    """
    model = positive.model
    if site.name not in ("resid_mid", "resid_post"):
        raise InterpError(f"{site}: what leads to it can be shown for resid_mid and resid_post only")
    layers = range(site.layer + 1)
    z = [Site(layer, "z") for layer in layers]
    mlps = [Site(layer, "mlp_out") for layer in layers if layer < site.layer or site.name == "resid_post"]
    first = Site(0, "resid_pre")
    for one in (*z, *mlps):
        check_site(model, one)
    sides = [prefixes.read([first, *z, *mlps]) for prefixes in (positive, negative)]
    yield Part("embedding", None, None, *(side[first] for side in sides))
    heads = model.config.get_text_config().num_attention_heads
    for one in z:
        project = output_projection(model, one)
        nothing = project(torch.zeros_like(sides[0][one][:1]))  # its bias, which is no head's
        for head in range(heads):
            yield Part("head", one.layer, head, *(project(_alone(side[one], head, heads)) - nothing for side in sides))
    for one in mlps:
        yield Part("mlp", one.layer, None, *(side[one] for side in sides))


def _alone(z: Float[Tensor, "rows width"], head: int, heads: int) -> Float[Tensor, "rows width"]:
    split = z.view(len(z), heads, -1)
    kept = torch.zeros_like(split)
    kept[:, head] = split[:, head]
    return kept.view_as(z)


def attention(model: Any, rows: Sequence[Sequence[int]], heads: Sequence[tuple[int, int]]) -> list[list[float]]:
    """Of each (layer, head), the mean over prefixes of the attention from the last position: to all before the last
    LOOKED together, and to each of these, the oldest first."""
    seen, found = _weights(model, rows), []
    for layer, head in heads:
        weights = seen[layer][:, head, -1].float().mean(0)
        found.append([float(weights[:-LOOKED].sum()), *weights[-LOOKED:].tolist()])
    return found


def patterns(model: Any, sides: Mapping[str, tuple[Sequence[int], Sequence[str]]], path: pl.DataFrame) -> pl.DataFrame:
    """What the heads of a path look at in one example of each side, with HEADS.

    Args:
        sides: side to one prefix and its tokens, spelled.
        path: a table with SCHEMA; its heads with `attention` are shown.
    """
    shown = path.filter(pl.col("attention").is_not_null()).select("layer", "head", "effect")
    found = []
    for side, (ids, tokens) in sides.items():
        seen = _weights(model, [ids])
        for row in shown.iter_rows(named=True):
            attention = _cropped(seen[row["layer"]][0, row["head"]].double(), PATTERN)
            more = len(tokens) > PATTERN
            spelled = [EARLIER, *tokens[-PATTERN:]] if more else list(tokens)
            found.append({"side": side, **row, "tokens": spelled, "attention": attention.tolist()})
    return pl.DataFrame(found, schema=HEADS)


@torch.no_grad()
def _weights(model: Any, rows: Sequence[Sequence[int]]) -> Sequence[Float[Tensor, "row head to from"]]:
    """Attention of every layer, the rows padded on the left."""
    ids, mask = left_padded([list(row) for row in rows], 0, model.device)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the only one that returns its weights
    try:
        return model(input_ids=ids, attention_mask=mask, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(before)


def _cropped(pattern: Float[Tensor, "tokens tokens"], kept: int) -> Float[Tensor, "shown shown"]:
    """The pattern of the last `kept` tokens; where there are more, a first token stands for them."""
    if len(pattern) <= kept:
        return pattern
    last = pattern[-kept:]
    earlier = torch.zeros(1, kept + 1).to(pattern)
    earlier[0, 0] = 1.0
    return torch.cat([earlier, torch.cat([last[:, :-kept].sum(1, keepdim=True), last[:, -kept:]], 1)])
