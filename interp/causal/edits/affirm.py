"""Behaviours cut off at their opening: the words stay, the work goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from interp.causal.edits.base import Scene
from interp.causal.edits.words import PhraseEdit, Watch, mask_of
from interp.errors import InterpError
from interp.generation.part import Part
from interp.traces.lexicon import Lexicon

SILENCE = 24
"""Tokens after an affirmation in which no other opening may be written."""


@dataclass(frozen=True)
class Affirm(PhraseEdit):
    """After a phrase that opens a behaviour, `text` is forced ("That is right."), and for `silence` tokens no other
    opening may follow."""

    text: str
    silence: int = SILENCE

    @property
    def name(self) -> str:
        return f"affirm: {self.text.strip()}"

    def start(self, scene: Scene) -> RunningAffirm:
        return RunningAffirm(self, scene)


class RunningAffirm(Watch):
    """An affirmation at work.

    Raises:
        InterpError: the vocabulary does not spell the text.
    """

    def __init__(self, edit: Affirm, scene: Scene):
        super().__init__(edit, scene)
        self._until: dict[int, int] = {}
        self._silence = edit.silence
        ids = scene.vocabulary.encode(edit.text)
        if not ids or scene.vocabulary.tokenizer.unk_token_id in ids:
            raise InterpError(f"{edit.name}: the vocabulary does not spell {edit.text!r}; give the lexicon another")
        self._ids = ids

    def before(self, part: Part) -> None:
        quiet = [i for i in part.free if self._until.get(part.rows[i], -1) >= part.step]
        if not quiet:
            return
        everywhere = mask_of(self.spelling, part.logits.device)
        for i in quiet:
            part.logits[i].masked_fill_(everywhere, -torch.inf)
            tail = self.tail(part, i)
            here = self.spelling.completing(tail) + (self.spelling.at_edges if self.spelling.is_edge(tail) else [])
            if here:
                part.logits[i, torch.tensor(here, device=part.logits.device)] = -torch.inf

    def after(self, part: Part) -> None:
        chosen = part.chosen.tolist()
        for i in part.free:
            done = self.completed(part, i, chosen[i])
            if done is None:
                continue
            _, with_choice = done
            if not with_choice:
                part.choose(i, self._ids[0])
            part.force(i, self._ids if with_choice else self._ids[1:])
            self._until[part.rows[i]] = part.step + len(self._ids) + self._silence
            self.fired[part.rows[i]] += 1


def affirm(lexicon: Lexicon) -> Affirm:
    """Cut off what the lexicon's openings (its markers of realization and verification) begin.

    Raises:
        InterpError: the lexicon has no affirmation or no opening.
    """
    openings = tuple(p for label, phrases in lexicon.markers.items() if label in OPENINGS for p in phrases)
    if not openings or not lexicon.affirmation:
        raise InterpError(
            f"lexicon {lexicon.name!r}: no {'affirmation' if openings else 'class realization or verification'}; "
            "affirm needs both"
        )
    return Affirm(openings, lexicon.affirmation)


OPENINGS = ("realization", "verification")
"""Classes of the lexicon whose phrases open a behaviour."""
