"""Arms on the latents of a decision: set back where it is made (to their mean after right steps, or before neutral
words), beside sets that are matched there; and the removals that the circuit's verdict is read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from interp.causal.arms import BOTH, CIRCUIT, FUNCTION, STYLE, Arm
from interp.causal.edits import Echo, Edit, Redraw, insert
from interp.causal.edits.along import SetComponent
from interp.causal.edits.ban import Ban
from interp.causal.edits.base import ResidualEdit
from interp.causal.edits.latents import SetTo
from interp.causal.edits.patches import set_heads
from interp.causal.edits.substitute import Substitute
from interp.causal.places import Places
from interp.causal.study_arms import Sizes
from interp.features.carriers import Carriers
from interp.features.circuit import DECIDING, WORDING
from interp.features.evidence import CONTROLLED, SERIES
from interp.features.matched import alike, distinct, matched_latents
from interp.models.hooks import Site
from interp.traces.announcements import Announcements
from interp.traces.lexicon import Lexicon

AT_FORKS, BEFORE_WORDS, BEFORE_RESULTS = "at forks", "before words", "before results"
"""Where each class decides."""


def evidence_name(name: str, says: str) -> str:
    """Name of the arm that sets a class's latents back somewhere."""
    return f"{name} latents set back {says}"


@dataclass(frozen=True)
class Located:
    """The claimed latents of a class, and the positions at which its decision is made."""

    edit: SetTo
    """Sets them back."""
    level: Float[np.ndarray, " latents"]
    """What each latent of the dictionary is set back to."""
    order: Sequence[int]
    """The latents of the class, the largest exact effect first."""
    at: Places
    """Where the decision is made."""
    says: str
    """These places in words."""
    everywhere: Places
    """The positions at which the dictionary is read at all."""
    firing: Float[np.ndarray, " latents"]
    """Of every latent at these places of the edited model's texts, as for `matched_latents`; `size` is how far setting
    it back moves the residual."""
    size: Float[np.ndarray, " latents"]
    never: Sequence[int]
    """Latents that are no control: the claimed ones of every class, and those that do other harm."""
    others: Carriers
    """The direction and the heads that are compared with them."""

    def set_back(self, latents: Sequence[int], where: Places | None = None) -> SetTo:
        """These latents set back where the decision is made, or elsewhere."""
        values = tuple(self.level[list(latents)].tolist())
        return replace(self.edit, latents=tuple(latents), values=values, where=where or self.everywhere & self.at)


def evidence_arms(name: str, found: Located, sizes: Sizes, problems: int) -> list[Arm]:
    """The class `name`'s latents set back where the decision is made, beside matched sets; everywhere and everywhere
    but there, which tell whether the place matters; and the first 1, 2, 4, ... of its order."""
    latents, at = found.edit.latents, found.says
    others = {
        evidence_name(name, says): found.set_back(latents, where)
        for says, where in (("everywhere", found.everywhere), ("elsewhere", found.everywhere & ~found.at))
    } | {
        f"first {k} {name} latents set back {at}": found.set_back(found.order[:k])
        for k in SERIES
        if k <= len(found.order) and k != len(latents)
    }
    parts = {evidence_name(name, at): _of_latents(found, sizes)} | {
        says: _Part(edit, (), "none: it is a control itself") for says, edit in others.items()
    }
    return [
        _arm(says, _site(part.edit), [part], sizes, problems)
        for says, part in (parts | _other_carriers(name, found, sizes)).items()
    ]


def _other_carriers(name: str, found: Located, sizes: Sizes) -> dict[str, _Part]:
    """The class's direction set back where the decision is made, beside random directions displaced as far, and
    everywhere; and the head, or two, with the largest effect, beside other heads."""
    others, places = found.others, found.everywhere & found.at
    label = f"the {name} direction"
    whole = SetComponent(found.edit.site, others.unit, label=label, value=others.level, where=found.everywhere)
    here, rng = whole.at(places), np.random.default_rng([sizes.seed, 2])
    random = torch.from_numpy(rng.standard_normal((sizes.draws, len(others.unit)))).to(others.unit)
    parts = {
        f"{name} direction set back {found.says}": _Part(
            here, [replace(here, along=one) for one in random], "random directions, displaced as far"
        ),
        f"{name} direction set back everywhere": _Part(whole, (), "none: it is a control itself"),
    }
    for k in range(1, CONTROLLED + 1):
        chosen, rest = others.heads[:k], others.heads[k:]
        if len(rest) < k:
            break
        drawn = distinct(rng, rest, k, sizes.draws)
        controls = [set_heads(heads, others.n_heads, others.z, places) for heads in drawn]
        listed = " and ".join(f"{layer}.{head}" for layer, head in chosen)
        parts[f"head{'s' if k > 1 else ''} {listed} set back {found.says}"] = _Part(
            set_heads(chosen, others.n_heads, others.z, places), controls, f"{k} other heads"
        )
    return parts


def removal_arms(
    located: Mapping[str, Located],
    lexicon: Lexicon,
    words: Announcements | None,
    models: tuple[str, ...],
    sizes: Sizes,
    problems: int,
) -> list[Arm]:
    """The removals of the verdict through the circuit, as far as latents are located.

    Without the wording latents the style is removed: `style removed, function kept`. Without the deciding latents no
    check of a wrong step begins: with markers put in at the starts of steps, as many as there were, this is `function
    removed, style kept`; with neutral words where markers are left (checks of right steps open with them), `both
    removed`. Where no latents decide, repeated steps echo their first result.

    Args:
        words: how the edited model's markers stand in its texts.
        models: those that each removal is run on, the edited one first; all are of the crosscoder.
    """
    wording, deciding = located.get(WORDING), located.get(DECIDING)
    wanted: list[tuple[str, str, list[_Part]]] = []
    if wording is not None:
        style = _of_latents(wording, sizes)
        wanted.append(("wording latents removed", STYLE, [style]))
        if deciding is not None:
            wanted.append(("wording and deciding latents removed", BOTH, [style, _of_latents(deciding, sizes)]))
        else:
            redraws = [Redraw(lexicon, draw) for draw in range(1, sizes.draws + 1)]
            echo = _Part(Echo(lexicon), redraws, "the repeated result drawn anew")
            wanted.append(("wording latents removed; steps echo", BOTH, [style, echo]))
    elif deciding is not None:
        away = _without_markers(lexicon)
        parts = [_of_latents(deciding, sizes), _Part(away, [away] * sizes.draws, "the same words")]
        wanted.append((f"deciding latents removed; {_says(away)}", BOTH, parts))
    if deciding is not None and words is not None:
        put_in = insert(words.phrases, words.rate, words.joints)
        parts = [_of_latents(deciding, sizes), _Part(put_in, [put_in] * sizes.draws, "the same markers")]
        wanted.append(("deciding latents removed; markers put in", FUNCTION, parts))
    site = next((found.edit.site for found in located.values()), None)
    return [
        _arm(name, site, parts, sizes, problems, claim=claim, models=models, forced=True)
        for name, claim, parts in wanted
    ]


def _without_markers(lexicon: Lexicon) -> Substitute | Ban:
    """Takes markers away by words: neutral ones in their place, or a ban where the lexicon has none."""
    markers = tuple(lexicon.class_of)
    return Substitute(markers, lexicon.neutral, "markers") if lexicon.neutral else Ban(markers, "markers")


def _says(away: Substitute | Ban) -> str:
    return "markers become neutral words" if isinstance(away, Substitute) else "markers banned"


@dataclass(frozen=True)
class _Part:
    """An edit and as many controls of it as there are draws."""

    edit: Edit
    controls: Sequence[Edit]
    says: str
    """What the controls are."""
    note: str = ""


def _site(edit: Edit) -> Site | None:
    """The first site that an edit changes."""
    return next((one.site for one in edit.parts() if isinstance(one, ResidualEdit)), None)


def _of_latents(found: Located, sizes: Sizes) -> _Part:
    mine = found.edit.latents
    barred = [*alike(found.edit.decoders, mine), *found.never]
    drawn = matched_latents(mine, found.firing, found.size, sizes.draws, sizes.seed, never=barred)
    edit = found.set_back(mine)
    controls = drawn.controls(found.set_back, lambda along: replace(edit, along=along))
    return _Part(edit, controls, f"{len(mine)} matched latents {found.says}", drawn.note)


def _arm(name: str, site: Site | None, parts: Sequence[_Part], sizes: Sizes, problems: int, **given: Any) -> Arm:
    """All parts at once, beside all their controls at once."""
    return Arm(
        name,
        _joined([part.edit for part in parts]),
        tuple(map(_joined, filter(_fit_together, zip(*(part.controls for part in parts), strict=False)))),
        " and ".join(part.says for part in parts),
        family=CIRCUIT,
        problems=problems,
        control_problems=sizes.control_problems,
        site=None if site is None else site.name,
        layer=None if site is None else site.layer,
        note="; ".join(part.note for part in parts if part.note),
        **given,
    )


def _fit_together(edits: Sequence[Edit]) -> bool:
    """Whether no two decide the same thing, as two draws that share a latent would."""
    claims = [claim for edit in edits for one in edit.parts() for claim in one.claims]
    return len(set(claims)) == len(claims)


def _joined(edits: Sequence[Edit]) -> Edit:
    return reduce(or_, edits)
