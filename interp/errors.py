"""Errors that the user can fix, and warnings of this project."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any


class InterpError(Exception):
    """One line that says what is wrong, where, and how to fix it; the command exits with 2."""


class InterpWarning(UserWarning):
    """Something is not as it should be, and work continues; always shown."""


def one_line(error: object, most: int = 160) -> str:
    """The text of an error in one line of at most `most` characters; its class where it has no text."""
    return " ".join((str(error) or type(error).__name__).split())[:most]


def first_difference(old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """(dotted key, old value, new value) of the first key in which two nested mappings or lists differ, a missing one
    being None; None where they are equal."""
    ours, theirs = dict(_leaves(old)), dict(_leaves(new))
    keys = (key for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key))
    return next(((key, ours.get(key), theirs.get(key)) for key in keys), None)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{prefix}.{key}".lstrip("."))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or the list of them where none is close."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(names))}"
