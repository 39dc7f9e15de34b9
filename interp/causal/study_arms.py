"""The arms of a study: removals of style, function and both for the verdict, edits of latents, and steering."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from interp.causal.arms import BOTH, FUNCTION, STYLE, Arm
from interp.causal.controls import control_phrases, swapped_phrases
from interp.causal.edits import Echo, Redraw, Scene, affirm, insert
from interp.causal.edits.ban import Ban
from interp.causal.edits.latents import Scale
from interp.causal.edits.substitute import Substitute
from interp.causal.places import Places
from interp.causal.steering import Direction
from interp.directions import random_like
from interp.errors import InterpError
from interp.features.matched import alike, matched_latents
from interp.generation.vocabulary import Vocabulary
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
    groups = [_style_arms(lexicon, listed, models, texts, prompts, sizes)]
    if found:
        groups.append(_style_arms(lexicon, (*listed, *found), models, texts, prompts, sizes, first, found=True))
    arms = [arm for group in groups for arm in group]
    redraws = tuple(Redraw(lexicon, draw) for draw in range(1, sizes.draws + 1))
    echo = Arm(
        "repeated steps echo the first result", Echo(lexicon), redraws, "the repeated result drawn anew", FUNCTION
    )
    arms.append(_sized(echo, "function", models, sizes))
    for style, *_ in groups:
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


def _style_arms(
    lexicon: Lexicon,
    removed: tuple[str, ...],
    models: tuple[str, ...],
    texts: Sequence[str],
    prompts: Sequence[str],
    sizes: Sizes,
    first: int = 0,
    *,
    found: bool = False,
) -> list[Arm]:
    """Substitution, where the lexicon has neutral words, and ban of the same phrases. The first's controls put other
    markers in the same places, the second's ban other words."""
    label = "markers and unlisted words" if found else "markers"
    arms = []
    if lexicon.neutral:
        swaps = swapped_phrases(texts, removed, sizes.draws, sizes.seed)
        others = tuple(Substitute(removed, phrases, "markers by markers") for phrases in swaps.draws)
        edit = Substitute(removed, lexicon.neutral, label)
        name = "markers become other markers"
        arms.append(Arm(f"{label} become neutral words", edit, others, name, STYLE, note=swaps.note))
    drawn = control_phrases(texts, prompts, lexicon, removed, sizes.draws, sizes.seed)
    bans = tuple(Ban(phrases, "control words") for phrases in drawn.draws)
    arms.append(Arm(f"{label} banned", Ban(removed, label), bans, "other words banned", STYLE, note=drawn.note))
    return [_sized(arm, "style", models, sizes, first, found) for arm in arms]


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
    edits: Mapping[str, Scale],
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
        barred = [*alike(edit.decoders, edit.latents), *never]
        drawn = matched_latents(edit.latents, firing, size, sizes.draws, sizes.seed, never=barred)
        for verb, times in (("ablate", 0.0), ("amplify", factor)):
            mine = replace(edit, factor=times, where=where)
            controls = drawn.controls(
                lambda latents, mine=mine: replace(mine, latents=latents),
                lambda along, mine=mine: replace(mine, along=along),
            )
            arms.append(
                Arm(
                    f"{verb} {behaviour} latents",
                    mine,
                    tuple(controls),
                    f"{len(edit.latents)} random latents, matched",
                    family="latents",
                    problems=problems,
                    control_problems=sizes.control_problems,
                    site=edit.site.name,
                    layer=edit.site.layer,
                    note=drawn.note,
                )
            )
    return arms


def steering_arms(
    direction: Direction, doses: Sequence[float], where: Places, sizes: Sizes, problems: int
) -> list[Arm]:
    """Doses of a direction, in units of the mean residual norm, beside random directions of the same norm.

    Raises:
        InterpError: the direction does not state that norm.
    """
    random = [Direction.of(one) for one in random_like(direction, sizes.draws, sizes.seed)]
    return [
        Arm(
            f"add {dose:+g} of the behaviour's direction",
            direction.add(dose, label="the behaviour's direction").at(where),
            tuple(one.add(dose, label="a random direction").at(where) for one in random),
            "random directions, same norm",
            family="steering",
            problems=problems,
            control_problems=sizes.control_problems,
            site=direction.site,
            layer=direction.layer,
            dose=dose,
        )
        for dose in doses
    ]
