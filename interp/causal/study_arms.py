"""The arms of a study: removals of style, function and both for the verdict, edits of latents, and steering."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from interp.causal.arms import BOTH, FUNCTION, STYLE, Arm
from interp.causal.controls import Drawn, control_phrases, matched_latents
from interp.causal.edits import Add, Echo, Edit, Redraw, Scene, ablate, affirm, amplify, insert
from interp.causal.edits.ban import Ban
from interp.causal.edits.latents import LatentEdit
from interp.causal.edits.substitute import Substitute
from interp.causal.places import Places, after_first
from interp.directions import Direction, random_like
from interp.errors import InterpError
from interp.generation.vocabulary import Vocabulary
from interp.models.hooks import Site
from interp.traces.lexicon import Lexicon


@dataclass(frozen=True)
class Sizes:
    """How much is run."""

    draws: int
    """Control draws of each arm."""
    control_problems: int
    """Problems of each draw."""
    seed: int


def text_arms(
    lexicon: Lexicon,
    vocabulary: Vocabulary,
    models: tuple[str, ...],
    texts: Sequence[str],
    prompts: Sequence[str],
    found: Sequence[str],
    first: int,
    sizes: Sizes,
) -> list[Arm]:
    """The removals of the verdict, each run on all `models`.

    Args:
        texts: untouched texts of the edited model.
        found: style words that no lexicon lists; arms that remove them too are run on the problems from `first` on,
            since the others served to find them.
    """
    listed = tuple(lexicon.class_of)
    arms = _style_arms(lexicon, listed, models, _phrases(texts, prompts, lexicon, listed, sizes), sizes, "")
    first_of_each = [arms[0]]
    if found:
        everything = (*listed, *found)
        drawn = _phrases(texts, prompts, lexicon, everything, sizes)
        wider = _style_arms(lexicon, everything, models, drawn, sizes, " and unlisted words", first)
        arms += wider
        first_of_each.append(wider[0])
    redraws = tuple(Redraw(lexicon, draw) for draw in range(1, sizes.draws + 1))
    echo = Arm(
        "repeated steps echo the first result", Echo(lexicon), redraws, "the repeated result drawn anew", FUNCTION
    )
    arms.append(_sized(echo, "function", models, sizes))
    for style in first_of_each:
        both = Arm(
            f"{style.name}; {echo.name}",
            style.edit | echo.edit,
            tuple(a | b for a, b in zip(itertools.cycle(style.controls), redraws, strict=False)) or redraws,
            "both controls at once",
            BOTH,
        )
        arms.append(_sized(both, "both", models, sizes, style.first, style.found))
    cut = _affirmation(lexicon, vocabulary, texts, sizes)
    return [*arms, *([_sized(cut, "function", models, sizes)] if cut is not None else [])]


def _phrases(
    texts: Sequence[str], prompts: Sequence[str], lexicon: Lexicon, removed: Sequence[str], sizes: Sizes
) -> Drawn:
    return control_phrases(texts, prompts, lexicon, removed, sizes.draws, sizes.seed)


def _style_arms(
    lexicon: Lexicon,
    removed: tuple[str, ...],
    models: tuple[str, ...],
    drawn: Drawn,
    sizes: Sizes,
    more: str,
    first: int = 0,
) -> list[Arm]:
    """Substitution and ban of the same phrases."""
    substitutes: list[Edit] = []
    for phrases in drawn.draws:
        others = tuple(word for word in lexicon.neutral if word not in phrases)
        if others:
            substitutes.append(Substitute(phrases, others, "control words"))
    arms = []
    if lexicon.neutral:
        label = f"markers{more}"
        arms.append(
            Arm(
                f"{label} become neutral words",
                Substitute(removed, lexicon.neutral, label),
                tuple(substitutes),
                "other words become neutral words",
                STYLE,
                note=drawn.note,
            )
        )
    bans = tuple(Ban(phrases, "control words") for phrases in drawn.draws)
    arms.append(
        Arm(f"markers{more} banned", Ban(removed, f"markers{more}"), bans, "other words banned", STYLE, note=drawn.note)
    )
    return [_sized(arm, "style", models, sizes, first, bool(more)) for arm in arms]


def _sized(arm: Arm, family: str, models: tuple[str, ...], sizes: Sizes, first: int = 0, found: bool = False) -> Arm:
    """The arm with what all arms of the verdict share."""
    return replace(
        arm,
        family=family,
        models=models,
        first=first,
        found=found,
        forced=True,
        control_problems=sizes.control_problems,
    )


def _affirmation(lexicon: Lexicon, vocabulary: Vocabulary, texts: Sequence[str], sizes: Sizes) -> Arm | None:
    """The cut of whatever an opening begins, None where the lexicon or the vocabulary has no words for it."""
    try:
        edit = affirm(lexicon)
        edit.start(Scene(vocabulary, 1, sizes.seed, 1.0))
    except InterpError:
        return None
    openings = sum(len(lexicon.marker_spans(text)) for text in texts)
    tokens = sum(len(text.split()) for text in texts)
    elsewhere = insert([lexicon.affirmation], min(0.2, openings / max(1, tokens)))
    return Arm("openings are cut off", edit, (elsewhere,), "the same words elsewhere", FUNCTION)


def latent_arms(
    edits: Mapping[str, LatentEdit],
    where: Places,
    firing: Float[np.ndarray, " latents"],
    size: Float[np.ndarray, " latents"],
    never: Sequence[int],
    factor: float,
    sizes: Sizes,
    problems: int,
) -> list[Arm]:
    """Ablation and amplification of each behaviour's latents, beside latents matched on the edited model.

    Args:
        edits: behaviour to the ablation of its latents.
        where: the edited places.
        firing: how often each latent fires at the edited places of the edited model's texts.
        size: mean of f·‖d‖ per position there.
        never: latents that may be no control.
        factor: of the amplification.
    """
    arms = []
    for behaviour, edit in edits.items():
        drawn = matched_latents(edit.latents, firing, size, sizes.draws, sizes.seed, never=never)
        cc, layer, name = edit.crosscoder, edit.site.layer, edit.site.name
        for verb, make in (
            (
                "ablate",
                lambda j, cc=cc, layer=layer, name=name, models=edit.models: ablate(
                    cc, j, layer, site=name, models=models
                ),
            ),
            (
                "amplify",
                lambda j, cc=cc, layer=layer, name=name, models=edit.models: amplify(
                    cc, j, factor, layer, site=name, models=models
                ),
            ),
        ):
            arms.append(
                Arm(
                    f"{verb} {behaviour} latents",
                    make(edit.latents).at(where),
                    tuple(make(j).at(where) for j in drawn.draws),
                    f"{len(edit.latents)} random latents, matched",
                    family="latents",
                    problems=problems,
                    control_problems=sizes.control_problems,
                    site=name,
                    layer=layer,
                    note=drawn.note,
                )
            )
    return arms


def steering_arms(
    direction: Direction, doses: Sequence[float], skip_first: int, sizes: Sizes, problems: int
) -> list[Arm]:
    """Doses of a direction, in units of the mean residual norm, beside random directions of the same norm."""
    norm = direction.provenance.residual_norm
    if not norm:
        raise InterpError("steering: the direction does not say the residual's mean norm; make it from activations")
    unit, place = direction.unit(), after_first(skip_first)
    random = random_like(unit, sizes.draws, sizes.seed)
    site = edit_site(direction)
    arms = []
    for dose in doses:
        scale = dose * norm

        def add(one: Direction, label: str, scale: float = scale) -> Edit:
            return Add(site, one.vector, scale=scale, label=label, where=place)

        arms.append(
            Arm(
                f"add {dose:+g} of the behaviour's direction",
                add(unit, "the behaviour's direction"),
                tuple(add(one, "a random direction") for one in random),
                "random directions, same norm",
                family="steering",
                problems=problems,
                control_problems=sizes.control_problems,
                site=direction.site,
                layer=direction.layer,
                dose=dose,
            )
        )
    return arms


def edit_site(direction: Direction) -> Site:
    """The site of a direction, as edits name it."""
    return Site(direction.layer, direction.site)
