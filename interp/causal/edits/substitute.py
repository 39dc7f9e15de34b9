"""Neutral words in the place of markers: the style goes, the decision to write one stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from interp.causal.edits.base import Scene
from interp.causal.edits.words import PhraseEdit, Watch
from interp.errors import InterpError
from interp.generation.noise import uniform
from interp.generation.part import Part
from interp.generation.spelling import Found
from interp.traces.lexicon import load_lexicon

STREAM = 1
"""Stream of the coins that choose a neutral word."""


@dataclass(frozen=True)
class Substitute(PhraseEdit):
    """The model chooses as before; where it would write a phrase, one of `by` is written in its place.

    Of one token: the phrases' probability goes to the neutral words, in proportion to the model's own probabilities of
    their first tokens. Of several: once the phrase is complete, its tokens are taken back and a neutral word, drawn
    evenly, is written and read instead. Where nothing is replaced, the run is the untouched run on the same noise.
    """

    by: tuple[str, ...]
    label: str = ""

    @property
    def name(self) -> str:
        return f"substitute {self.label or ', '.join(self.phrases)}"

    def start(self, scene: Scene) -> RunningSubstitute:
        return RunningSubstitute(self, scene)


class RunningSubstitute(Watch):
    """A substitution at work.

    Raises:
        InterpError: the vocabulary spells none of the neutral words.
    """

    def __init__(self, edit: Substitute, scene: Scene):
        super().__init__(edit, scene)
        self._by = edit.by
        self._forms: dict[tuple[str, bool, str], list[list[int]]] = {}
        if not self._spelled(" ", False, "") and not self._spelled("", False, ""):
            raise InterpError(
                f"{edit.name}: the vocabulary spells none of the neutral words {', '.join(self._by) or '(none)'}; "
                "list some in the lexicon"
            )

    def _spelled(self, lead: str, is_capital: bool, trail: str) -> list[list[int]]:
        """Ids of each neutral word as it would stand in a phrase's place."""
        key = (lead, is_capital, trail)
        if key not in self._forms:
            texts = [f"{lead}{word.capitalize() if is_capital else word}{trail}" for word in self._by]
            forms = [self.vocabulary.encode(text) for text in texts]
            unknown = self.vocabulary.tokenizer.unk_token_id
            self._forms[key] = [ids for ids in forms if ids and unknown not in ids]
        return self._forms[key]

    def after(self, part: Part) -> None:
        chosen = part.chosen.tolist()
        for i in part.free:
            done = self.completed(part, i, chosen[i])
            if done is None:
                continue
            found, with_choice = done
            forms = self._forms_for(found)
            if not forms:
                continue
            behind = found.tokens - 1 if with_choice else found.tokens
            ids = self._drawn(part, i, forms, decided_here=behind == 0)
            part.take_back(i, behind)
            part.choose(i, ids[0])
            part.force(i, ids[1:])
            self.fired[part.rows[i]] += 1

    def _forms_for(self, found: Found) -> list[list[int]]:
        return self._spelled(found.lead, found.phrase[:1].isupper(), found.trail) or self._spelled(
            found.lead, found.phrase[:1].isupper(), ""
        )

    def _drawn(self, part: Part, i: int, forms: list[list[int]], *, decided_here: bool) -> list[int]:
        """A neutral word: by the model's probabilities where it decides at this very place, else evenly."""
        if decided_here:
            first = torch.tensor([ids[0] for ids in forms], device=part.logits.device)
            scores = part.logits[i, first]
            if part.noise is not None:
                scores = scores / self.scene.temperature + part.noise[i, first]
            if bool(scores.isfinite().any()):
                return forms[int(scores.argmax())]
        coin = float(uniform(self.scene.seed, part.numbers[i : i + 1], part.step, STREAM)[0])
        return forms[min(int(coin * len(forms)), len(forms) - 1)]


def substitute(words: str | Sequence[str], by: Sequence[str] | None = None) -> Substitute:
    """Replace the markers of a lexicon (bundled name or file), or the given phrases, by neutral words.

    Raises:
        InterpError: there are no neutral words.
    """
    label = ""
    if isinstance(words, str):
        lexicon = load_lexicon(words)
        words, by, label = tuple(lexicon.class_of), lexicon.neutral if by is None else by, f"{lexicon.name} markers"
    if not by:
        raise InterpError(f"substitute {label or ', '.join(words)}: no neutral words; list some in the lexicon")
    return Substitute(tuple(words), tuple(by), label)
