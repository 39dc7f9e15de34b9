"""What edits of phrases share: how a vocabulary spells them, and where a row has just written one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.causal.edits.base import Edit, Running, Scene
from interp.generation.part import Part
from interp.generation.spelling import Found, Spelling
from interp.generation.vocabulary import Vocabulary
from interp.traces.phrases import canonical


@lru_cache(maxsize=32)
def spelling(vocabulary: Vocabulary, phrases: tuple[str, ...]) -> Spelling:
    """A set of phrases as a vocabulary spells them; kept, since its tables take time."""
    return Spelling(vocabulary, phrases)


@dataclass(frozen=True)
class PhraseEdit(Edit):
    """An edit of some phrases."""

    phrases: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrases", tuple(dict.fromkeys(map(canonical, self.phrases))))

    @property
    def claims(self) -> frozenset[str]:
        return frozenset(f"the words {phrase!r}" for phrase in self.phrases)

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        one = spelling(scene.vocabulary, self.phrases)
        return not _ends(one).isdisjoint(completion) or one.occurs([scene.vocabulary.pieces[j] for j in completion])


class Watch(Running):
    """Knows, after each choice, which phrase a row has just completed. A phrase whose last piece is inside a word waits
    for the next token, which shows whether the word is over."""

    def __init__(self, edit: PhraseEdit, scene: Scene):
        super().__init__(scene.rows)
        self.vocabulary, self.scene = scene.vocabulary, scene
        self.spelling = spelling(scene.vocabulary, edit.phrases)
        self._begins_word = [piece[:1].isalnum() for piece in scene.vocabulary.pieces]
        self._pending: dict[int, Found] = {}

    def tail(self, part: Part, i: int) -> str:
        """The last characters that row `i` has written."""
        return self.vocabulary.text(part.written[i][-self.spelling.reach :])

    def completed(self, part: Part, i: int, token: int) -> tuple[Found, bool] | None:
        """(phrase, whether `token` belongs to it) where row `i`'s choice completes a phrase, or shows that the one
        before it was complete; None where it does neither."""
        row, piece = part.rows[i], self.vocabulary.pieces[token]
        waiting = self._pending.pop(row, None)
        if waiting is not None and not self._begins_word[token]:
            return waiting, False
        if token not in self._ends and not self.spelling.completing(self.tail(part, i)):
            return None
        found = self.spelling.found(part.written[i], piece)
        if found is not None and self.spelling.waits(found, piece) and not part.is_last(i):
            self._pending[row] = found
            return None
        return None if found is None else (found, True)

    @property
    def _ends(self) -> frozenset[int]:
        return _ends(self.spelling)


@lru_cache(maxsize=32)
def _ends(one: Spelling) -> frozenset[int]:
    return frozenset(one.anywhere) | frozenset(one.at_edges)


@lru_cache(maxsize=32)
def mask_of(one: Spelling, device: torch.device) -> Bool[Tensor, " vocab"]:
    """The ids that hold a phrase after any text."""
    mask = torch.zeros(len(one.vocabulary), dtype=torch.bool, device=device)
    mask[torch.tensor(one.anywhere, dtype=torch.long, device=device)] = True
    return mask
