"""What every edit is: a frozen value that can be restricted, joined to others, and started on the rows of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.causal.places import EVERYWHERE, Places, Reading
from interp.errors import InterpError
from interp.generation.part import Part
from interp.generation.vocabulary import Vocabulary
from interp.models.hooks import Site


@dataclass(frozen=True)
class Scene:
    """What an edit is started with: one job of a batch."""

    vocabulary: Vocabulary
    rows: int
    """Prompts of the job."""
    seed: int
    temperature: float


class Running:
    """An edit at work on the rows of one job. `fired[row]` counts what it changed in each row: positions of a residual,
    or places of the text."""

    by_row = False
    """Whether what it does to a prompt depends on the row: then no beginning is read once for all rows."""

    def __init__(self, rows: int):
        self.fired = [0] * rows

    def before(self, part: Part) -> None:
        """Change the next token's logits."""

    def after(self, part: Part) -> None:
        """Change the choice."""


@dataclass(frozen=True)
class Edit:
    """One change of a run. `e1 | e2` applies both, in this order."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        raise NotImplementedError

    @property
    def needs(self) -> frozenset[str]:
        """Models that must read along, beside the edited one."""
        return frozenset()

    @property
    def claims(self) -> frozenset[str]:
        """What it decides alone: two edits with a claim in common contradict each other."""
        return frozenset()

    def start(self, scene: Scene) -> Running:
        """Begin on a job.

        Raises:
            InterpError: it cannot be done with this vocabulary.
        """
        raise NotImplementedError

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        """Whether it can change a run whose untouched completion, on the same noise, is this one. Where it cannot, the
        edited run is the untouched one."""
        return True

    def on(self, model: str) -> Edit:
        """The same edit of another model; itself where it does not name one."""
        return self

    def parts(self) -> tuple[Edit, ...]:
        """The simple edits that it is made of."""
        return (self,)

    def __or__(self, other: Edit) -> Edit:
        return Both((*self.parts(), *other.parts()))

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, equal for equal edits: tensors stand as their SHA-256."""
        return {"edit": type(self).__name__} | {f.name: describe(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Both(Edit):
    """Several edits at once.

    Raises:
        InterpError: two of them contradict each other.
    """

    edits: tuple[Edit, ...]

    def __post_init__(self) -> None:
        for i, first in enumerate(self.edits):
            for second in self.edits[i + 1 :]:
                if shared := sorted(first.claims & second.claims):
                    raise InterpError(
                        f"edits {first.name!r} and {second.name!r} contradict each other: both decide {shared[0]}; "
                        "leave one of them out"
                    )

    @property
    def name(self) -> str:
        return " | ".join(edit.name for edit in self.edits)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(edit.needs for edit in self.edits))

    def on(self, model: str) -> Edit:
        return Both(tuple(edit.on(model) for edit in self.edits))

    def parts(self) -> tuple[Edit, ...]:
        return self.edits

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        return any(edit.may_act(scene, completion, text) for edit in self.edits)

    def at(self, places: Places) -> Edit:
        """All of them restricted to these places."""
        return Both(tuple(edit.at(places) if isinstance(edit, ResidualEdit) else edit for edit in self.edits))

    def start(self, scene: Scene) -> Running:
        return _All([edit.start(scene) for edit in self.edits], scene.rows)


class _All(Running):
    def __init__(self, running: Sequence[Running], rows: int):
        super().__init__(rows)
        self.running = running
        self.by_row = any(one.by_row for one in running)

    def before(self, part: Part) -> None:
        for one in self.running:
            one.before(part)

    def after(self, part: Part) -> None:
        for one in self.running:
            one.after(part)


def started(running: Running) -> Iterator[Running]:
    """The running simple edits of one that may be joined."""
    if isinstance(running, _All):
        for one in running.running:
            yield from started(one)
    else:
        yield running


def fired(running: Running) -> list[int]:
    """What all edits of a job changed in each row."""
    return [sum(counts) for counts in zip(*(one.fired for one in started(running)), strict=True)]


@dataclass(frozen=True)
class NoEdit(Edit):
    """The untouched run."""

    @property
    def name(self) -> str:
        return "untouched"

    def may_act(self, scene: Scene, completion: list[int], text: str) -> bool:
        return False

    def start(self, scene: Scene) -> Running:
        return Running(scene.rows)


@dataclass(frozen=True, eq=False)
class ResidualEdit(Edit):
    """A change of an activation: `change` is a pure function of it and of the other models' at the same positions."""

    site: Site
    where: Places = field(default=EVERYWHERE, kw_only=True)

    @property
    def by_row(self) -> bool:
        """Whether it changes equal prompts unlike each other."""
        return False

    def at(self, places: Places) -> ResidualEdit:
        """The same edit at these places only."""
        return replace(self, where=places)

    def change(self, h: Float[Tensor, "rows d"], others: dict[str, Float[Tensor, "rows d"]]) -> Float[Tensor, "rows d"]:
        """The activation in its stead."""
        raise NotImplementedError

    def change_at(
        self,
        h: Float[Tensor, "rows d"],
        others: dict[str, Float[Tensor, "rows d"]],
        numbers: Int[Tensor, " rows"],
        positions: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows d"]:
        """The same, for an edit that asks of which problem and at which position of its text each activation is."""
        return self.change(h, others)

    def check(self, width: int) -> None:
        """Refuse an activation of a width that the edit does not fit."""

    def start(self, scene: Scene) -> RunningResidual:
        return RunningResidual(self, scene)


class RunningResidual(Running):
    """A residual edit at work."""

    def __init__(self, edit: ResidualEdit, scene: Scene):
        super().__init__(scene.rows)
        self.edit, self._scene, self.by_row = edit, scene, edit.by_row

    def apply(
        self,
        h: Float[Tensor, "rows new d"],
        others: dict[str, Float[Tensor, "rows new d"]],
        part: Part,
        reading: Reading,
    ) -> Float[Tensor, "rows new d"]:
        """The changed activation; positions outside its places keep their bits."""
        where = self.edit.where.mask(reading) & reading.real
        # A companion that has a prompt of its own is not there while the edited model reads its prompt.
        if not bool(where.any()) or not self.edit.needs <= others.keys():
            return h
        numbers = reading.numbers[:, None].expand(where.shape)
        if bool(where.all()):
            flat = {name: x.flatten(0, 1) for name, x in others.items()}
            new = self.edit.change_at(h.flatten(0, 1), flat, numbers.flatten(), reading.position.flatten())
            new = new.to(h.dtype).view_as(h)
            self._count(where, (new != h).any(dim=2).flatten(), part)
            return new
        seen = {name: x[where] for name, x in others.items()}
        new = self.edit.change_at(h[where], seen, numbers[where], reading.position[where]).to(h.dtype)
        self._count(where, (new != h[where]).any(dim=1), part)
        changed = h.clone()
        changed[where] = new
        return changed

    def _count(self, where: Bool[Tensor, "rows new"], moved: Bool[Tensor, " edited"], part: Part) -> None:
        counts = torch.zeros_like(where)
        counts[where] = moved
        per_row = counts.sum(1).tolist()
        if part.is_beginning:
            return  # it is no row's own
        for i, (place, n) in enumerate(zip(part.rows, per_row, strict=True)):
            # How long a row that has ended stays in the batch depends on the other rows.
            self.fired[place] += 0 if part.done[i] else n


def describe(value: Any) -> Any:
    """A JSON-able form of a field."""
    if isinstance(value, Edit):
        return value.describe()
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().flatten()
        shape = list(value.shape)
        return f"{shape} {hashlib.sha256(data.view(torch.uint8).numpy().tobytes()).hexdigest()}"
    if isinstance(value, torch.nn.Module):
        return _described(value)
    if isinstance(value, (list, tuple)):
        return [describe(one) for one in value]
    if isinstance(value, dict):
        return {str(key): describe(one) for key, one in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


_HASHES: WeakKeyDictionary[torch.nn.Module, list[str]] = WeakKeyDictionary()


def _described(module: torch.nn.Module) -> list[str]:
    """Kept, since every draw of an arm holds the same crosscoder; its weights are frozen."""
    if module not in _HASHES:
        _HASHES[module] = [describe(tensor) for tensor in module.state_dict().values()]
    return _HASHES[module]
