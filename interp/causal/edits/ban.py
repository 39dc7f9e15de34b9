"""Phrases that may not be written: their probability is 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from interp.causal.edits.base import Scene
from interp.causal.edits.words import PhraseEdit, Watch, mask_of
from interp.generation.part import Part
from interp.generation.sampling import pick
from interp.traces.lexicon import load_lexicon


@dataclass(frozen=True)
class Ban(PhraseEdit):
    """Forbids every token that would complete one of the phrases; a phrase that only the next token shows is taken
    back, and its first token is forbidden at that place."""

    label: str = ""

    @property
    def name(self) -> str:
        return f"ban {self.label or ', '.join(self.phrases)}"

    def start(self, scene: Scene) -> RunningBan:
        return RunningBan(self, scene)


class RunningBan(Watch):
    """A ban at work. It fires where the untouched model, on the same noise, would have written the phrase."""

    def __init__(self, edit: Ban, scene: Scene):
        super().__init__(edit, scene)
        self._not_here: dict[int, dict[int, set[int]]] = {}

    def before(self, part: Part) -> None:
        everywhere = mask_of(self.spelling, part.logits.device)
        wanted = pick(part.logits, self.scene.temperature, part.noise)
        hit = everywhere[wanted].tolist()
        part.logits.masked_fill_(everywhere, -torch.inf)
        asked = wanted.tolist()
        for i in part.free:
            row = part.rows[i]
            forbidden = self._here(part, i)
            if forbidden:
                part.logits[i, torch.tensor(sorted(forbidden), device=part.logits.device)] = -torch.inf
            self.fired[row] += hit[i] or asked[i] in forbidden

    def _here(self, part: Part, i: int) -> set[int]:
        """Ids that are forbidden in this row alone."""
        tail = self.tail(part, i)
        forbidden = set(self._not_here.get(part.rows[i], {}).get(len(part.written[i]), ()))
        forbidden.update(j for j in self.spelling.completing(tail) if not self._begins_word[j])
        if self.spelling.at_edges and self.spelling.is_edge(tail):
            forbidden.update(self.spelling.at_edges)
        return forbidden

    def after(self, part: Part) -> None:
        chosen = part.chosen.tolist()
        for i in part.free:
            row = part.rows[i]
            done = self.completed(part, i, chosen[i])
            if done is None:
                continue
            found, with_choice = done
            behind = found.tokens - with_choice
            first = part.written[i][-behind] if behind else chosen[i]
            part.take_back(i, behind)
            part.choose_again(i)
            place = len(part.written[i])
            # What was forbidden later on stood after other tokens.
            earlier = {at: ids for at, ids in self._not_here.get(row, {}).items() if at <= place}
            earlier.setdefault(place, set()).add(first)
            self._not_here[row] = earlier
            self.fired[row] += 1


def ban(words: str | Sequence[str]) -> Ban:
    """Forbid the markers of a lexicon (bundled name or file), or the given phrases."""
    if isinstance(words, str):
        lexicon = load_lexicon(words)
        return Ban(tuple(lexicon.class_of), f"{lexicon.name} markers")
    return Ban(tuple(words))
