"""reasoning-gym's registry: a data set by its name and options, with entries that a seed repeats."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from interp.errors import InterpError, nearest, one_line

HASHED = ("isomorphic_strings", "polynomial_multiplication", "ransom_note")
"""Data sets (of 0.1.25) that draw from Python sets, whose order depends on the hash seed of the process."""


def generator(name: str, options: Mapping[str, Any], seed: int, size: int) -> Any:
    """A data set that generates `size` entries.

    Raises:
        InterpError: reasoning-gym is not installed, it has no such data set, or an option is not one of its own.
    """
    data_set, config = _registered(name)
    known = {f.name for f in fields(config)} - {"seed", "size"}
    for option in options:
        if option not in known:
            raise InterpError(f"task.options: {name} has no option {option!r}; {nearest(option, known)}")
    try:
        return data_set(config(**options, seed=seed, size=size))
    except (AssertionError, TypeError, ValueError) as error:
        reason = one_line(error, 300)
        raise InterpError(f"task.options = {dict(options)}: {name} refuses them: {reason}; change them") from error


def entries(name: str, options: Mapping[str, Any], seed: int, size: int) -> Iterator[Mapping[str, Any]]:
    """Entries of a data set, the same for the same seed; Python's own generator is seeded too, since a few use it.

    Raises:
        InterpError: as `generator`, or the entries would differ between processes.
    """
    source = generator(name, options, seed, size)
    if name in HASHED and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise InterpError(f"task.data_set = {name}: its problems depend on Python's hash seed; set PYTHONHASHSEED=0")
    for i in range(size):
        with _seeded(seed + i):
            entry = source[i]
        yield entry


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context in which Python's own generator starts from a seed; afterwards its state is restored."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _registered(name: str) -> tuple[Any, Any]:
    """Class of a data set and class of its config."""
    try:
        from reasoning_gym.factory import DATASETS  # type: ignore[import-not-found]
    except ImportError as error:
        raise InterpError(
            "task.kind = reasoning_gym: reasoning-gym is not installed; run `pip install 'interp[gym]'`"
        ) from error
    if name not in DATASETS:
        raise InterpError(f"task.data_set = {name}: reasoning-gym has no such data set; {nearest(name, DATASETS)}")
    return DATASETS[name]
