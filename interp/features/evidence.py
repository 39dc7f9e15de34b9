"""What carries a decision, measured teacher-forced on the confirming half: latents, a direction, attention heads; and
whether what carries it in one model is enough in another.

Every row is one intervention at the last position of the prefixes: the probability of a token that begins the
behaviour after the positive side (P(onset | wrong)) and after the negative side (false alarms), and what is done to the
next token there when no onset comes (KL). Beside it stand interventions of the same kind that should do nothing:
latents matched at the same places, the same change with the latents' identities shuffled, latents of the other models,
random directions displaced as far, other heads.

A row shows what the model does at one position. What it then writes is measured in free-running text (`causal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.attribution import Decision, Side
from interp.features.carriers import Carriers, Head, heads_to
from interp.features.matched import alike, as_long, distinct, matched_latents
from interp.features.specificity import specificity
from interp.models.hooks import Site
from interp.models.prefixes import ChangeRows, Prefixes

SET_BACK = "set back"
"""To the mean on the negative side."""
SERIES = (1, 2, 4, 8, 16)
"""Sizes of the sets."""
DRAWS = 100
"""Control interventions of each row, at most: there are only so many heads, and latents of other models."""
CONTROLLED = 2
"""Most heads of a set that is compared with other sets: of 20 heads there are few others of more."""
NEAR = 24
"""Latents of the other model that a control is drawn from: those that move the residual most at these places."""
SCHEMA = {
    "what": pl.String,
    "edit": pl.String,
    "model": pl.String,
    "k": pl.Int64,
    "chosen": pl.List(pl.String),
    "margin_untouched": pl.Float64,
    "margin": pl.Float64,
    "onset_untouched": pl.Float64,
    "onset": pl.Float64,
    "false_alarm_untouched": pl.Float64,
    "false_alarm": pl.Float64,
    "kl_negative": pl.Float64,
    "control": pl.String,
    "n_controls": pl.Int64,
    "control_mean": pl.Float64,
    "control_low": pl.Float64,
    "control_high": pl.Float64,
    "p": pl.Float64,
}
"""Columns of `evidence.parquet`. `margin`: mean log-odds of an onset after the positive side, nats. `control_low` and
`control_high` are the smallest and largest of the controls' onset probabilities (after the negative side where the edit
is to make false alarms); p = (1 + controls at least as extreme) / (1 + controls), in the direction that is wanted."""

Changes = Mapping[Site, ChangeRows]
Intervention = Callable[[Side], Changes]
"""One side of a contrast to the changes of its prefixes' last positions."""


@dataclass(frozen=True)
class _Row:
    what: str
    edit: str
    k: int
    chosen: Sequence[object]
    do: Intervention
    control: str
    controls: Sequence[Intervention]
    raises: bool = False
    """Whether the edit is to make an onset more probable."""
    alarms: bool = False
    """Whether it is to do so after the negative side."""


def necessity(
    choosing: Decision,
    confirming: Decision,
    order: Sequence[int],
    chosen: Sequence[int],
    others: Carriers,
    seed: int,
    never: Sequence[int] = (),
) -> pl.DataFrame:
    """What the decision needs: the subject's latents, a direction and heads taken away, with SCHEMA.

    Args:
        order: latents, the largest exact effect on the choosing half first.
        chosen: the set that is claimed or was tried.
        others: the direction and the heads that are compared with the latents, of the choosing half.
        never: latents that are no control.
    """
    rng = np.random.default_rng([seed, 1])
    rows = [*_latent_rows(choosing, confirming, order, chosen, seed, never), _direction_row(confirming, others, rng)]
    rows += _head_rows(others, rng)
    return _table(confirming, rows)


def sufficiency(decision: Decision, guests: Mapping[str, Decision], chosen: Sequence[int], seed: int) -> pl.DataFrame:
    """What is enough for the decision: the subject's latents, or its whole activation, in every guest model, with
    SCHEMA.

    Args:
        guests: other models' reading of the same prefixes (`guest`); in each, Σ f_j (d_subject,j - d_guest,j) over the
            chosen latents is added (Minder, Dumas et al. 2025).
    """
    tables = []
    for name, other in guests.items():
        difference = decision.decoder - other.decoder
        drawn = matched_latents(
            chosen,
            decision.positive.rate(),
            decision.positive.size(difference),
            DRAWS,
            seed,
            never=alike(difference, chosen),
        )

        def transplant(
            latents: Sequence[int], difference: Tensor = difference, along: Sequence[int] | None = None
        ) -> Intervention:
            written = difference[list(latents)]
            if along is not None:
                written = as_long(difference[list(along)], written)
            return lambda side: {decision.site: _added(side.f[:, list(latents)] @ written)}

        whole = {id(other.positive): decision.positive.h, id(other.negative): decision.negative.h}
        rows = [
            _Row(
                "latents",
                "written as the subject writes them",
                len(chosen),
                chosen,
                transplant(chosen),
                f"{len(chosen)} matched latents",
                drawn.controls(transplant, lambda along: transplant(chosen, along=along)),
                raises=True,
            ),
            _Row(
                "residual",
                "the subject's activation",
                0,
                (),
                lambda side, whole=whole: {decision.site: lambda h, here: whole[id(side)][here]},
                "none",
                (),
                raises=True,
            ),
        ]
        tables.append(_table(other, rows, name))
    return pl.concat(tables) if tables else pl.DataFrame(schema=SCHEMA)


def guest(
    decision: Decision,
    model: object,
    slot: int,
    positive: Sequence[Sequence[int]],
    negative: Sequence[Sequence[int]],
    pad_id: int,
    batch_size: int,
) -> Decision:
    """Another model's reading of the same prefixes, with the code of the crosscoder's own models.

    Args:
        slot: its number among the crosscoder's models; for a model that the crosscoder was not trained on, that of its
            parent, whose decoders stand for its own.
    """
    sides = []
    for side, rows in ((decision.positive, positive), (decision.negative, negative)):
        prefixes = Prefixes(model, rows, pad_id, batch_size)  # type: ignore[arg-type]
        sides.append(Side(prefixes, prefixes.read([decision.site])[decision.site], side.f))
    return replace(decision, slot=slot, positive=sides[0], negative=sides[1])


def _latent_rows(
    choosing: Decision,
    confirming: Decision,
    order: Sequence[int],
    chosen: Sequence[int],
    seed: int,
    no_control: Sequence[int],
) -> list[_Row]:
    means, onset_means = choosing.level, choosing.positive.f.mean(0)
    fires, sizes = confirming.rate(), confirming.positive.size(confirming.decoder)
    moved = confirming.positive.size(confirming.decoder, means)
    sets = {k: tuple(order[:k]) for k in SERIES if k <= len(order)} | {len(chosen): tuple(chosen)}
    rows = []
    for k, latents in sorted(sets.items()):
        never = [*chosen, *alike(confirming.decoder, latents), *no_control]
        edits = {SET_BACK: (means, moved)}
        if k == len(chosen):
            edits |= {"set to zero": (None, sizes), "set to their mean on the positive side": (onset_means, moved)}
        for edit, (to, size) in edits.items():
            draws = DRAWS if k in (1, len(chosen)) else 0
            drawn = matched_latents(latents, fires, size, draws, seed, never=never)
            controls = drawn.controls(
                lambda other, to=to: _set(confirming, other, to),
                lambda along, to=to, latents=latents: _set(confirming, latents, to, along),
            )
            backwards = to is onset_means
            do, control = _set(confirming, latents, to), f"{k} matched latents"
            rows.append(_Row("latents", edit, k, latents, do, control, controls, raises=backwards, alarms=backwards))
    rng = np.random.default_rng(seed)
    first, k = _set(confirming, chosen, means), len(chosen)
    alive = np.setdiff1d(np.flatnonzero(sizes > 0), chosen)
    if len(alive) >= k:
        shuffled = [_set(confirming, chosen, means, drawn) for drawn in distinct(rng, alive.tolist(), k, DRAWS)]
        rows.append(_Row("latents", SET_BACK, k, chosen, first, "their identities shuffled", shuffled))
    share = specificity(confirming.crosscoder.W_dec.detach()).cpu().numpy()
    others = [j for j in alive[np.argsort(-sizes[alive])].tolist() if share[j].argmax() != confirming.slot][:NEAR]
    if len(others) >= k:
        opposite = [_set(confirming, latents, means) for latents in distinct(rng, others, k, DRAWS)]
        rows.append(_Row("latents", SET_BACK, k, chosen, first, f"{k} latents of the other models", opposite))
    return rows


def _set(
    decision: Decision,
    latents: Sequence[int],
    to: Float[Tensor, " latents"] | None = None,
    along: Sequence[int] | None = None,
) -> Intervention:
    """Latents to zero, or to a value each; `along`: written along the decoders of other latents, as far."""
    mine = list(latents)
    directions = decision.directions(mine, along)

    def do(side: Side) -> Changes:
        goal = 0.0 if to is None else to[mine]
        return {decision.site: _added((goal - side.f[:, mine]) @ directions)}

    return do


def _added(change: Float[Tensor, "rows d_model"]) -> ChangeRows:
    fixed = change.detach()
    return lambda h, here: h + fixed[here].to(h)


def _direction_row(confirming: Decision, found: Carriers, rng: np.random.Generator) -> _Row:
    """The component along the difference of means set back, beside displacements of the same lengths along random
    directions."""

    def along(vector: Tensor) -> Intervention:
        return lambda side: {confirming.site: _added((found.level - side.h.float() @ found.unit)[:, None] * vector)}

    drawn = torch.from_numpy(rng.standard_normal((DRAWS, len(found.unit)))).to(found.unit)
    random = [along(one / one.norm()) for one in drawn]
    return _Row(
        "direction",
        SET_BACK,
        1,
        ("difference of means",),
        along(found.unit),
        "random directions, displaced as far",
        random,
    )


def _head_rows(found: Carriers, rng: np.random.Generator) -> list[_Row]:
    """Heads of all blocks set back, the largest exact effect on the choosing half first. Not to zero: a head that the
    place needs, whatever its side, would come first."""

    def back(heads: Sequence[Head]) -> Intervention:
        changes = heads_to(heads, found.n_heads, found.z)
        return lambda side: changes

    rows = []
    for k in (k for k in SERIES if k < len(found.heads)):
        chosen, rest = found.heads[:k], found.heads[k:]
        controls = [back(drawn) for drawn in distinct(rng, rest, k, DRAWS)] if k <= CONTROLLED else []
        names = [f"{layer}.{head}" for layer, head in chosen]
        rows.append(_Row("heads", SET_BACK, k, names, back(chosen), f"{k} other heads", controls))
    return rows


@torch.no_grad()
def _apply(side: Side, do: Intervention) -> Float[Tensor, "rows vocab"]:
    return side.prefixes.logits(do(side))


def _table(decision: Decision, rows: Sequence[_Row], model: str = "") -> pl.DataFrame:
    """The interventions' effects in the model whose decision it is."""
    margin, untouched, quiet = decision.margin, decision.logits(decision.positive), decision.logits(decision.negative)
    found = []
    for row in rows:
        positive, negative = _apply(decision.positive, row.do), _apply(decision.negative, row.do)
        value = float(margin.p(negative if row.alarms else positive).mean())
        side = decision.negative if row.alarms else decision.positive
        controls = np.array([float(margin.p(_apply(side, one)).mean()) for one in row.controls])
        beyond = controls >= value if row.raises else controls <= value
        there = len(controls) > 0
        found.append(
            {
                "what": row.what,
                "edit": row.edit,
                "model": model,
                "k": row.k,
                "chosen": [str(one) for one in row.chosen],
                "margin_untouched": float(margin.of(untouched).mean()),
                "margin": float(margin.of(positive).mean()),
                "onset_untouched": float(margin.p(untouched).mean()),
                "onset": float(margin.p(positive).mean()),
                "false_alarm_untouched": float(margin.p(quiet).mean()),
                "false_alarm": float(margin.p(negative).mean()),
                "kl_negative": float(margin.harm(quiet, negative).mean()),
                "control": row.control if there else "none",
                "n_controls": len(controls),
                "control_mean": float(controls.mean()) if there else None,
                "control_low": float(controls.min()) if there else None,
                "control_high": float(controls.max()) if there else None,
                "p": float((1 + beyond.sum()) / (1 + len(controls))) if there else None,
            }
        )
    return pl.DataFrame(found, schema=SCHEMA)
