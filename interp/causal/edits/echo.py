"""Redone steps that repeat the earlier result (`echo`), or draw it anew (`redraw`, the control)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from interp.causal.edits.base import Edit, Running, Scene
from interp.generation.noise import gumbel
from interp.generation.part import Part
from interp.generation.vocabulary import Vocabulary
from interp.traces.lexicon import Lexicon
from interp.traces.redone import may_be_pending, pending

TAIL = 256
"""Last tokens of a row in which the earlier step is looked for."""


def rest_of(vocabulary: Vocabulary, written: list[int], lexicon: Lexicon) -> str | None:
    """The rest of the earlier result, where a text is about to write that of a redone step."""
    text = vocabulary.text(written[-TAIL:])
    return _pending(text, lexicon) if may_be_pending(text) else None


@lru_cache(maxsize=1 << 16)
def _pending(text: str, lexicon: Lexicon) -> str | None:
    """Kept, since the draws of a control write the same texts up to their first difference."""
    return pending(text, lexicon)


@lru_cache(maxsize=1 << 14)
def _acts(vocabulary: Vocabulary, completion: tuple[int, ...], lexicon: Lexicon) -> bool:
    return any(rest_of(vocabulary, list(completion[:i]), lexicon) for i in range(1, len(completion) + 1))


def acts(vocabulary: Vocabulary, completion: list[int], lexicon: Lexicon) -> bool:
    """Whether a completion holds a place where the result of a redone step begins."""
    return _acts(vocabulary, tuple(completion), lexicon)


@dataclass(frozen=True)
class Echo(Edit):
    """Where a row works a step again and is about to write its result, the earlier result is forced, token by token:
    words and length stay, the work is removed. Steps are found by their equations, or in prose by a repeated line or
    sentence (`traces.redone`)."""

    lexicon: Lexicon

    @property
    def name(self) -> str:
        return "echo redone steps"

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({"the results of redone steps"})

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        return acts(scene.vocabulary, completion, self.lexicon)

    def start(self, scene: Scene) -> RunningEcho:
        return RunningEcho(self.lexicon, scene)


class RunningEcho(Running):
    """An echo at work."""

    def __init__(self, lexicon: Lexicon, scene: Scene):
        super().__init__(scene.rows)
        self._lexicon, self._vocabulary = lexicon, scene.vocabulary

    def before(self, part: Part) -> None:
        for i in part.free:
            rest = rest_of(self._vocabulary, part.written[i], self._lexicon)
            token = None if not rest else self._vocabulary.longest(rest)
            if token is None:
                continue
            self.act(part, i, token)
            self.fired[part.rows[i]] += 1

    def act(self, part: Part, i: int, token: int) -> None:
        """Force the earlier result's next token."""
        part.logits[i] = -torch.inf
        part.logits[i, token] = 0.0


@dataclass(frozen=True)
class Redraw(Edit):
    """At the places where `echo` would act the result is drawn by the model itself, with other noise: an edit of the
    same places that keeps the work. Greedily decoded it changes nothing."""

    lexicon: Lexicon
    draw: int = 0

    @property
    def name(self) -> str:
        return "redraw redone steps"

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({"the results of redone steps"})

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        return acts(scene.vocabulary, completion, self.lexicon)

    def start(self, scene: Scene) -> RunningRedraw:
        return RunningRedraw(self, scene)


class RunningRedraw(RunningEcho):
    """A redraw at work."""

    def __init__(self, edit: Redraw, scene: Scene):
        super().__init__(edit.lexicon, scene)
        self._scene, self._seed = scene, (scene.seed + 1) * 1_000_003 + edit.draw

    def act(self, part: Part, i: int, token: int) -> None:
        if part.noise is None:
            return
        other = gumbel(self._seed, part.numbers[i : i + 1], part.step, part.logits.shape[1])[0]
        drawn = int((part.logits[i] / self._scene.temperature + other).argmax())
        part.logits[i] = -torch.inf
        part.logits[i, drawn] = 0.0
