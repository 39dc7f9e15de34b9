"""Errors that the user can fix, and warnings of this project."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InterpError(Exception):
    """One line that says what is wrong, where, and how to fix it; the command exits with 2."""


class InterpWarning(UserWarning):
    """Something is not as it should be, and work continues; always shown."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or the list of them where none is close."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(names))}"
