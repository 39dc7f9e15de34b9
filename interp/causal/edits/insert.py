"""Words put in where the model did not choose to write them: the token is there, what it usually announces is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interp.causal.edits.base import Edit, Running, Scene
from interp.causal.places import ends_step
from interp.errors import InterpError
from interp.generation.noise import uniform
from interp.generation.part import Part

STREAM, WHICH = 4, 5
"""Streams of the coins that say where, and which text."""
TAIL = 64
"""Last tokens of a row in which a joint is looked for."""


@dataclass(frozen=True)
class Insert(Edit):
    """Before each free choice, with probability `rate`, one of `texts` is written and the choice is made after it.

    With `joints`, such as `;`, only where a step begins: after one of them behind the end of a step or sentence (at the
    end itself where the joint is empty), when a word or a number is chosen."""

    texts: tuple[str, ...]
    rate: float
    joints: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        where = " of the starts of steps" if self.joints else ""
        return f"insert {', '.join(text.strip() for text in self.texts)} at {self.rate:.3g}{where}"

    def start(self, scene: Scene) -> RunningInsert:
        return RunningInsert(self, scene)


class RunningInsert(Running):
    """An insertion at work.

    Raises:
        InterpError: the vocabulary does not spell a text.
    """

    def __init__(self, edit: Insert, scene: Scene):
        super().__init__(scene.rows)
        self._edit, self._scene = edit, scene
        spelled = [scene.vocabulary.encode(text) for text in edit.texts]
        bad = [text for text, ids in zip(edit.texts, spelled, strict=True) if not ids]
        if bad or not spelled:
            raise InterpError(
                f"{edit.name}: the vocabulary does not spell {bad[0] if bad else 'anything'!r}; choose another"
            )
        self._ids = [ids for ids in spelled if ids]

    def after(self, part: Part) -> None:
        coins = uniform(self._scene.seed, part.numbers, part.step, STREAM).tolist()
        which = uniform(self._scene.seed, part.numbers, part.step, WHICH).tolist()
        for i in part.free:
            if coins[i] < self._edit.rate and self._begins_step(part, i):
                ids = self._ids[min(int(which[i] * len(self._ids)), len(self._ids) - 1)]
                part.choose(i, ids[0])
                part.force(i, ids[1:])
                self.fired[part.rows[i]] += 1

    def _begins_step(self, part: Part, i: int) -> bool:
        if not self._edit.joints:
            return True
        if not self._scene.vocabulary.pieces[int(part.chosen[i])].lstrip()[:1].isalnum():
            return False
        text = self._scene.vocabulary.text(part.written[i][-TAIL:]).rstrip(" ")
        return any(text.endswith(j) and ends_step(text[: len(text) - len(j)]) for j in self._edit.joints)


def insert(texts: Sequence[str], rate: float, joints: Sequence[str] = ()) -> Insert:
    """Insert texts, such as " wait ,", before a share `rate` of the choices, or of the starts of steps where the
    `joints` between two steps are given."""
    return Insert(tuple(texts), rate, tuple(joints))
