"""How a direction was made, as a value that JSON can hold."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from interp.errors import InterpError, nearest

_TEXTS = ("model", "model_hash", "positions", "texts_hash", "crosscoder_hash", "date", "version")
_COUNTS = ("rows_inside", "rows_outside")
_NORMS = ("norm", "residual_norm")


@dataclass(frozen=True)
class Provenance:
    """How a direction was made. None stands for what is not known.

    Raises:
        InterpError: a field of another type, a norm that is not above 0 and finite, evidence that JSON cannot hold.
    """

    method: str = "unknown"
    """`difference_of_means`, `from_latents`, `probe`, `random_like`, `read from x.gguf`, `a - b` with `parents`."""
    model: str | None = None
    """Name of the model whose residuals it lies in."""
    model_hash: str | None = None
    """Sha-256 of its weights."""
    positions: str | None = None
    """Tokens whose rows were taken: `inside`, `forks`, `before 13 to 8`."""
    rows_inside: int | None = None
    """Number of rows on the side that the direction points to."""
    rows_outside: int | None = None
    """Number of rows on the other side."""
    texts_hash: str | None = None
    """Sha-256 of the texts that were read."""
    crosscoder_hash: str | None = None
    """Sha-256 of the crosscoder's weights, where the direction comes from its `latents`."""
    latents: tuple[int, ...] = ()
    norm: float | None = None
    """L2 norm of the vector as it was made, in the residual's units; `unit` and `scaled` leave it."""
    residual_norm: float | None = None
    """Mean L2 norm of the residual at the site: the unit of a dose."""
    date: str | None = None
    """ISO 8601, UTC."""
    version: str | None = None
    """Version of this package."""
    parents: tuple[Provenance, ...] = ()
    """Of a direction that was computed from others: theirs, left one first, without evidence."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Dose-response, controls, anything that JSON can hold. It holds for this direction and its positive multiples, so
    every other operation drops it."""

    def __post_init__(self) -> None:
        for name in ("method", *_TEXTS):
            self._require(name, isinstance(self._at(name), str), "text")
        for name in _COUNTS:
            self._require(name, _is_count(self._at(name)), "a whole number from 0")
        for name in _NORMS:
            self._require(name, _is_positive(self._at(name)), "a finite number above 0")
        object.__setattr__(self, "latents", tuple(self.latents))
        object.__setattr__(self, "parents", tuple(self.parents))
        self._require("latents", all(map(_is_count, self.latents)), "whole numbers from 0")
        self._require("parents", all(isinstance(p, Provenance) for p in self.parents), "provenances")
        object.__setattr__(self, "evidence", _as_json(self.evidence))

    def _at(self, name: str) -> Any:
        return getattr(self, name)

    def _require(self, name: str, fits: bool, wanted: str) -> None:
        value = self._at(name)
        if not fits and (value is not None or name == "method"):
            raise InterpError(f"provenance: {name} is {value!r}; it must be {wanted}")

    def without_evidence(self) -> Provenance:
        return replace(self, evidence={})

    def made(self, method: str, norm: float, **known: Any) -> Provenance:
        """The same for a direction that is made now by `method`: with its norm, today's date and our version. An entry
        of `known` that this one has already is kept, since the caller has said it; evidence is merged."""
        kept = {name: value for name, value in known.items() if self._at(name) in (None, (), {})}
        if "evidence" in known:
            kept["evidence"] = known["evidence"] | self.evidence
        date = self.date or datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self, method=method, norm=norm, date=date, version=self.version or version("interp"), **kept)

    def reversed(self) -> Provenance:
        """That of the opposite direction: the sides change places, and the evidence goes."""
        sides = {"rows_inside": self.rows_outside, "rows_outside": self.rows_inside}
        return replace(self.without_evidence(), method=f"-({self.method})", **sides)

    def to_json(self) -> dict[str, Any]:
        """Names and values that `json.dumps` takes; what is not known is left out."""
        return _told(asdict(self))


def _told(values: dict[str, Any]) -> dict[str, Any]:
    told = values | {"parents": [_told(parent) for parent in values["parents"]]}
    return {name: value for name, value in told.items() if value not in (None, (), [], {})}


def from_json(values: Any) -> Provenance:
    """The inverse of `Provenance.to_json`; raises InterpError for an unknown name or a value of another type."""
    known = {f.name for f in fields(Provenance)}
    if not isinstance(values, dict):
        raise InterpError("provenance: holds no names and values; write the file again")
    if odd := next((name for name in values if name not in known), None):
        raise InterpError(f"provenance: {odd!r} is no entry of it ({nearest(odd, known)})")
    for name in ("latents", "parents"):
        if not isinstance(values.get(name, []), (list, tuple)):
            raise InterpError(f"provenance: {name} is {values[name]!r}; it must be a list")
    read: dict[str, Any] = values | {"parents": tuple(from_json(parent) for parent in values.get("parents", []))}
    return Provenance(**read)


def combined(left: Provenance, sign: str, right: Provenance, norm: float) -> Provenance:
    """That of a direction computed from two: it names both, and keeps the model where they share it and the unit of a
    dose, the left one's first."""
    a, b = left.without_evidence(), right.without_evidence()
    shared: dict[str, Any] = {key: a._at(key) for key in ("model", "model_hash") if a._at(key) == b._at(key)}
    about = Provenance(residual_norm=a.residual_norm or b.residual_norm, parents=(a, b), **shared)
    return about.made(f"({a.method}) {sign} ({b.method})", norm)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _as_json(evidence: Any) -> dict[str, Any]:
    """The evidence as it will be read back, so that a saved direction equals the loaded one."""
    try:
        held = json.loads(json.dumps(evidence, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InterpError(
            f"provenance: evidence is not JSON ({error}); give numbers, texts, lists and dicts, and None for NaN"
        ) from error
    if not isinstance(held, dict):
        raise InterpError(f"provenance: evidence is {type(evidence).__name__}; it must be a dict")
    return held
