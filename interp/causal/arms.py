"""The families of arms: each runs its edits and their controls, and returns rows of the table of effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.controls import random_directions
from interp.causal.edits import AddDirection, ReconstructionOnly, ScaleLatents, scale_sets
from interp.causal.effects import control_columns, effect_rows, number
from interp.causal.latent_sets import LatentArm
from interp.causal.pairs import Pair
from interp.causal.patching import SITES, hook_name, patch, positions_mask, random_positions, read_beginning, run_side
from interp.causal.style import (
    Recomputation,
    ban,
    control_bans,
    control_words,
    marker_ban,
    spelled_by_one,
    spelled_by_several,
    vocabulary_pieces,
)
from interp.causal.subject import Subject, perplexity
from interp.causal.verdict import BOTH, FUNCTION, STYLE, Arm
from interp.crosscoder import Crosscoder
from interp.statistics import Bootstrap
from interp.traces.measure import Outcomes

Rows = list[dict[str, Any]]


def text_arms(
    subject: Subject, untouched: Outcomes, n_controls: int, n_control_problems: int, *, construction: bool
) -> tuple[dict[str, Arm], Rows]:
    """Outcomes of each arm with its controls, and rows of the table: the ban of markers; with `construction` also the
    echo of recomputations, and both."""
    vocab = subject.model.config.get_text_config().vocab_size
    pieces = vocabulary_pieces(subject.tokenizer, vocab)
    single = spelled_by_one(pieces, subject.lexicon, subject.tokenizer.all_special_ids)
    several = spelled_by_several(subject.tokenizer, subject.lexicon, single)
    names = [STYLE, FUNCTION, BOTH] if construction else [STYLE]
    banned = torch.zeros(len(names), vocab, dtype=torch.bool)
    wordless = torch.tensor([name != FUNCTION for name in names])
    banned[wordless] = _one_hot(single, vocab)
    again = Recomputation(subject.tokenizer, pieces)
    echoed = [i for i, name in enumerate(names) if name != STYLE]
    edits = [ban(banned, several, wordless), *([again.echo(echoed)] if echoed else [])]
    edited = [subject.outcomes(r) for r in subject.run(len(untouched), len(names), edits=edits)]
    controls = _text_controls(subject, pieces, [*single], again, n_controls, n_control_problems, construction)
    arms = {name: Arm(outcome, controls[name]) for name, outcome in zip(names, edited, strict=True)}
    rows: Rows = []
    for name, arm in arms.items():
        labels = {"family": _FAMILY[name], "arm": name, "model": subject.name}
        rows += effect_rows(
            labels, arm.edited, untouched, arm.controls, _CONTROL[name], subject.bootstrap(len(untouched))
        )
    return arms, rows


_FAMILY = {STYLE: "style", FUNCTION: "function", BOTH: "both"}
_CONTROL = {
    STYLE: "ban of random other words",
    FUNCTION: "the recomputed result drawn anew",
    BOTH: "both controls at once",
}


def _text_controls(
    subject: Subject,
    pieces: Sequence[str],
    banned: Sequence[int],
    again: Recomputation,
    draws: int,
    n: int,
    construction: bool,
) -> dict[str, list[Outcomes]]:
    """`draws` outcomes of the first `n` problems for each arm. Copies 0 to draws-1 ban random words, the next `draws`
    redraw recomputed results, the last do both."""
    counts = np.bincount([i for r in subject.run(n, 1)[0] for i in r.completion_ids], minlength=len(pieces))
    words = control_words(pieces, counts, banned, 2 * max(1, len(banned)))
    names = [STYLE, FUNCTION, BOTH] if construction else [STYLE]
    bans = torch.zeros(draws * len(names), len(pieces), dtype=torch.bool)
    if words:
        random = control_bans(words, draws, len(pieces), np.random.default_rng(subject.seed))
        for i, name in enumerate(names):
            if name != FUNCTION:
                bans[i * draws : (i + 1) * draws] = random
    redrawn = list(range(draws, len(bans)))
    edits = [ban(bans), *([again.redraw(redrawn, subject.seed, subject.temperature)] if redrawn else [])]
    outcomes = [subject.outcomes(r) for r in subject.run(n, len(bans), edits=edits)]
    found = {name: outcomes[i * draws : (i + 1) * draws] for i, name in enumerate(names)}
    if not words:
        found[STYLE] = []
    return found


def _one_hot(ids: Sequence[int], vocab: int) -> Tensor:
    row = torch.zeros(vocab, dtype=torch.bool)
    row[list(ids)] = True
    return row


def latent_family(
    subject: Subject, cc: Crosscoder, arms: Sequence[LatentArm], untouched: Outcomes, n: int
) -> tuple[dict[str, Arm], Rows]:
    """Scale each arm's latents by its factor, on the first `n` problems; controls are its matched random latents under
    the same factor."""
    slot = list(subject.models).index(subject.name)
    ran: dict[str, Arm] = {}
    rows: Rows = []
    for arm in arms:
        edit = scale_sets(cc, slot, [arm.latents, *arm.controls], arm.factor, untouched_first=False)
        outcomes = [subject.outcomes(r) for r in subject.run(n, 1 + len(arm.controls), edit=edit)]
        ran[arm.name] = Arm(outcomes[0], outcomes[1:])
        labels = {
            "family": "latents",
            "arm": arm.name,
            "model": subject.name,
            "layer": subject.layer,
            "site": "resid_post",
        }
        control = f"{len(arm.latents)} random latents matched in frequency and norm"
        rows += effect_rows(labels, outcomes[0], untouched.head(n), outcomes[1:], control, subject.bootstrap(n))
    return ran, rows


def reconstruction_arms(subject: Subject, cc: Crosscoder, untouched: Outcomes, n: int) -> Rows:
    """Effect of the dictionary itself: the residual replaced by its reconstruction, or by the error alone."""
    slot = list(subject.models).index(subject.name)
    rows: Rows = []
    for name, keep_error in (("reconstruction only", False), ("error only", True)):
        edit = ReconstructionOnly(cc, slot, keep_error)
        outcome = subject.outcomes(subject.run(n, 1, edit=edit)[0])
        labels = {"family": "latents", "arm": name, "model": subject.name, "layer": subject.layer, "site": "resid_post"}
        rows += effect_rows(
            labels, outcome, untouched.head(n), [], "none: it is a control itself", subject.bootstrap(n)
        )
    return rows


def steering_family(
    subject: Subject,
    direction: Float[Tensor, " d_model"],
    residual_norm: float,
    doses: Sequence[float],
    coherence: float,
    untouched: Outcomes,
    n: int,
    n_controls: int,
) -> Rows:
    """Add dose · `residual_norm` · v̂ after the block at every position, v̂ being `direction` at norm 1; controls are
    random directions at the same dose. A dose is coherent while the perplexity of its text under the unedited model
    is below `coherence` times that of the unedited text."""
    unit = direction / direction.norm()
    random = random_directions(unit, n_controls, subject.seed)
    plain = perplexity(subject.model, subject.run(n, 1)[0])
    rows: Rows = []
    for dose in doses:
        vectors = dose * residual_norm * torch.cat([unit[None], random])
        rollouts = subject.run(n, len(vectors), edit=AddDirection(vectors.to(subject.model.device)), read_along=False)
        outcomes = [subject.outcomes(r) for r in rollouts]
        ratio = perplexity(subject.model, rollouts[0]) / plain
        labels = {
            "family": "steering",
            "arm": f"add {dose:+g} of the behaviour's direction",
            "model": subject.name,
            "layer": subject.layer,
            "site": "resid_post",
            "dose": dose,
            "coherent": ratio < coherence,
        }
        of_dose = effect_rows(
            labels, outcomes[0], untouched.head(n), outcomes[1:], "random directions, same norm", subject.bootstrap(n)
        )
        for row in of_dose:
            row["note"] = f"{row['note']} perplexity x{ratio:.2f}".strip()
        rows += of_dose
    return rows


def patching_family(
    bridge: Any,
    pairs: Sequence[Pair],
    layers: Sequence[int],
    model: str,
    n_controls: int,
    resamples: int,
    seed: int,
    advance: Any,
) -> Rows:
    """Noising and denoising at the marker by layer and site; controls patch as many random positions.

    Two rows a place: the change of the continuation's log-probability (nats), and the share `restored`.
    """
    beginning = read_beginning(bridge, pairs)
    clean, corrupt = (run_side(bridge, pairs, beginning, side, SITES, layers) for side in (False, True))
    bootstrap, rng = Bootstrap(len(pairs), resamples, seed), np.random.default_rng(seed)
    at_marker = positions_mask([p.changed for p in pairs], clean)
    elsewhere = [positions_mask(random_positions(pairs, rng), clean) for _ in range(n_controls)]
    gap = clean.metric - corrupt.metric
    rows: Rows = []
    for arm, into, source, toward in (("noising", clean, corrupt, -1.0), ("denoising", corrupt, clean, 1.0)):
        for layer in layers:
            for site in SITES:
                names = [hook_name(layer, site)]
                change = patch(bridge, into, source, names, at_marker, pairs) - into.metric
                controls = [patch(bridge, into, source, names, where, pairs) - into.metric for where in elsewhere]
                advance()
                labels = {"family": "patching", "arm": arm, "model": model, "layer": layer, "site": site}
                base = {"n_problems": len(pairs), "coherent": True, "note": "", **labels}
                raw = bootstrap.difference(change)
                rows.append(
                    base
                    | {"outcome": "log-probability", "untouched": float(into.metric.mean())}
                    | raw.as_dict()
                    | control_columns(raw.estimate, [float(c.mean()) for c in controls], "random positions")
                )
                rows.append(base | {"outcome": "restored"} | _restored(change, controls, toward * gap, bootstrap))
    return rows


def _restored(
    change: np.ndarray, controls: Sequence[np.ndarray], gap: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Share of the difference between clean and corrupt (`gap`) that the patch carries over, a ratio of means over
    pairs: 0 nothing, 1 all. Refused where the interval of `gap` contains 0: the share would divide by noise."""
    total = bootstrap.difference(gap)
    if not total.excludes_zero():
        return {
            "note": f"refused: clean and corrupt differ by {total.estimate:.3f} "
            f"[{total.low:.3f}, {total.high:.3f}] nats, which may be 0"
        }
    draws = bootstrap.sums(change) / bootstrap.sums(gap)
    share = bootstrap.interval(float(change.sum() / gap.sum()), draws[np.isfinite(draws)])
    return number(share) | control_columns(
        share.estimate, [float(c.sum() / gap.sum()) for c in controls], "random positions"
    )


def latent_verdict_arms(
    ran: Mapping[str, Arm], subject: Subject, cc: Crosscoder, group: Sequence[int], n: int
) -> dict[str, Arm]:
    """The arms `function` and `both` of prose, where no equation shows the function: ablation of the verification
    latents, alone and together with the ban. Both have the ablation's controls."""
    ablation = ran["ablate verification latents"]
    slot = list(subject.models).index(subject.name)
    edit: ScaleLatents = scale_sets(cc, slot, [list(group)], 0.0, untouched_first=False)
    without_markers = marker_ban(subject.tokenizer, subject.lexicon, subject.model.config.get_text_config().vocab_size)
    rollouts = subject.run(n, 1, edit=edit, edits=[without_markers])[0]
    return {FUNCTION: ablation, BOTH: Arm(subject.outcomes(rollouts), ablation.controls)}
